//! Auto-deploy: copies a database from a donor that stays ONLINE, in checked ranges of key order, into a staging
//! place. A restart of either side, or another donor, goes on where the copy stopped. The copy is fuzzy; what
//! changed meanwhile comes by the feeds, to which the alignment afterwards holds it. A range is written while the next one
//! is on its way.

use super::copy_writer::{CopyWriter, append_chosen, commit};
use super::databases::{blocking, sign};
use super::node::{DeployState, Node};
use super::replica::{META_CONFIGURATION, META_DEPLOYED};
use crate::storage::{StorageError, Store, StoreIdentity};
use coequal_protocol::auto_deploy::{self, CopyProgress, DonorFailures, DonorPosition};
use coequal_protocol::background_pace::{DEPLOY, Pace, Step};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::ChosenBody;
use coequal_protocol::record::FeedId;
use coequal_protocol::{Key, LogRecord, Message};
use coequal_types::{Configuration, DatabaseName, DatabaseStatus, NodeId, Progress, SynchronizationPhase};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const RANGE_BYTES_MAX: u32 = 1 << 20;
/// The same beside writers.
const RANGE_BESIDE_WRITERS_BYTES_MAX: u32 = RANGE_BYTES_MAX / 4;
const RANGE_ENTRIES_MAX: usize = 16_384;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const DONOR_EVERY: Duration = Duration::from_millis(100);
const META_PROGRESS: &str = "deploy";
/// `CopyProgress` as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredProgress {
    donor: Option<NodeId>,
    start: Option<(FeedId, u64)>,
    after: Option<Vec<u8>>,
    entries: u64,
    bytes: u64,
    #[serde(default)]
    opening: u64,
    #[serde(default)]
    inherited: Vec<(NodeId, FeedId, u64)>,
    /// Epoch at which this node was taken in. A copy begun before it misses what was deleted and collected in between.
    #[serde(default)]
    joined: u64,
}

impl StoredProgress {
    fn encode(progress: &CopyProgress, joined: u64) -> bytes::Bytes {
        let CopyProgress { donor, start, opening, inherited, after, entries, bytes } = progress.clone();
        let after = after.map(|key| key.as_bytes().to_vec());
        let stored = Self { donor, start, after, entries, bytes, opening, inherited, joined };
        // Numbers and ids always serialise; an empty value would make the copy begin again.
        serde_json::to_vec(&stored).unwrap_or_default().into()
    }

    /// The progress of a copy that was begun as this member.
    fn decode(json: &[u8], expected: u64) -> Option<CopyProgress> {
        let Self { donor, start, after, entries, bytes, opening, inherited, joined } =
            serde_json::from_slice(json).ok()?;
        (joined == expected).then_some(CopyProgress {
            donor,
            start,
            opening,
            inherited,
            after: after.and_then(|bytes| Key::from_bytes(bytes.into())),
            entries,
            bytes,
        })
    }
}

/// Reads a range for a deploy: chosen revisions only, never promises or accepts.
pub fn read_range(store: &Store, request: u64, after: Option<&Key>, bytes_max: u32) -> Result<Message, StorageError> {
    // Taken down before anything is read: what they speak of is in the range then.
    let cursors = if after.is_none() { store.cursors() } else { Vec::new() };
    let position = DonorPosition { feed: store.feed_id(), head: store.feed_head(), opening: store.opening(), cursors };
    let counts = store.counts();
    let bytes_max = bytes_max.min(RANGE_BYTES_MAX) as usize;
    let bodies = store.scan(after, b"", RANGE_ENTRIES_MAX, bytes_max)?;
    let done = bodies.is_empty();
    let checksum = range_checksum(&bodies);
    Ok(Message::RangeAnswer { request, position, total: counts.documents + counts.tombstones, bodies, done, checksum })
}

/// CRC-32C over what a range says, so that neither side's memory nor the way between changes a copy unseen.
pub fn range_checksum(bodies: &[ChosenBody]) -> u32 {
    bodies.iter().fold(0, |sum, body| {
        let sum = crc32c::crc32c_append(sum, body.key.as_bytes());
        let sum = crc32c::crc32c_append(sum, &body.ballot.time.to_be_bytes());
        let sum = crc32c::crc32c_append(sum, &body.revision.version.to_be_bytes());
        crc32c::crc32c_append(sum, body.revision.body.as_deref().unwrap_or(b"-"))
    })
}

/// Copies the whole database and gives it its place. An error says why it stopped; calling again goes on.
pub(super) async fn run(
    node: &Arc<Node>,
    name: &DatabaseName,
    configuration: &Configuration,
    shown: &DeployState,
    mut answers: mpsc::Receiver<(NodeId, Message)>,
) -> Result<(), String> {
    let (store, progress) = open_staging(node, name, configuration).await.map_err(|e| e.to_string())?;
    let mut writer = CopyWriter::start(&store, name).map_err(|e| format!("no thread for the copy: {e}"))?;
    let copied = copy(node, configuration, shown, &mut answers, (progress, &mut writer)).await;
    // Whatever ended it: nobody writes to the staging place any more.
    let written = writer.finish().await;
    match copied? {
        None => {
            drop(store);
            node.directory.discard_staging(name).map_err(|e| e.to_string())
        }
        Some(progress) => {
            written.map_err(|e| e.to_string())?;
            finish(node, name, configuration, store, &progress).await.map_err(|e| e.to_string())
        }
    }
}

/// Copies range after range; `None` when the copy is not wanted any more.
async fn copy(
    node: &Arc<Node>,
    configuration: &Configuration,
    shown: &DeployState,
    answers: &mut mpsc::Receiver<(NodeId, Message)>,
    (mut progress, writer): (CopyProgress, &mut CopyWriter),
) -> Result<Option<CopyProgress>, String> {
    let (started, entries_before) = (Instant::now(), progress.entries);
    let joined = joined_at(configuration, node.id);
    // An answer to a former copy, late, must never fit this one.
    let mut request = node.now_ms() << 20;
    let mut failures = DonorFailures::default();
    let (mut pace, mut donor_head) = (Pace::default(), None);
    loop {
        let began = Instant::now();
        if !still_wanted(node, &configuration.name, configuration) {
            return Ok(None);
        }
        let donor = choose_donor(node, configuration, progress.donor, &failures);
        let Some(donor) = donor else {
            say(shown, "waits for a donor: no node of this database is reachable and ONLINE");
            tokio::time::sleep(DONOR_EVERY).await;
            continue;
        };
        request += 1;
        let after = progress.after.clone();
        let bytes_max = if pace.short_steps() { RANGE_BESIDE_WRITERS_BYTES_MAX } else { RANGE_BYTES_MAX };
        let _ = node.network.send(donor, configuration.uuid, Message::RangeRequest { request, after, bytes_max });
        let Some(range) = await_range(answers, donor, request).await else {
            say(shown, &format!("donor {donor} does not answer; another one is asked, if there is one"));
            failures.was_silent(donor);
            continue;
        };
        if range.checksum != range_checksum(&range.bodies) || !goes_on_behind(progress.after.as_ref(), &range.bodies) {
            say(shown, &format!("a range from donor {donor} arrived damaged; it is asked for again"));
            failures.sent_damage(donor);
            tokio::time::sleep(DONOR_EVERY).await;
            continue;
        }
        failures.gave(donor);
        let head = range.position.head;
        let writes = donor_head.replace(head).map_or(0, |before| head.saturating_sub(before));
        progress.take_range(donor, range.position);
        if range.done {
            return Ok(Some(progress));
        }
        check_space(node, &progress, range.total)?;
        for body in &range.bodies {
            progress.add(&body.key, body.revision.body.as_ref().map_or(0, bytes::Bytes::len));
        }
        let reached =
            LogRecord::Meta { name: META_PROGRESS.to_owned(), value: StoredProgress::encode(&progress, joined) };
        writer.write(range.bodies, reached).await.map_err(|e| e.to_string())?;
        show(shown, &progress, range.total, entries_before, started.elapsed());
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let remaining = range.total.saturating_sub(progress.entries);
        let pause_ms = pace.pause_ms(DEPLOY, Step { now_ms: node.now_ms(), took_ms, writes, remaining });
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// Whether a range is in key order and goes on where the copy is.
fn goes_on_behind(after: Option<&Key>, bodies: &[ChosenBody]) -> bool {
    let keys = || bodies.iter().map(|body| &body.key);
    after.is_none_or(|after| keys().next().is_none_or(|first| after < first))
        && keys().is_sorted_by(|one, next| one < next)
}

struct Range {
    position: DonorPosition,
    total: u64,
    bodies: Vec<ChosenBody>,
    done: bool,
    checksum: u32,
}

async fn await_range(answers: &mut mpsc::Receiver<(NodeId, Message)>, donor: NodeId, expected: u64) -> Option<Range> {
    let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
    loop {
        match tokio::time::timeout_at(deadline, answers.recv()).await.ok()?? {
            (from, Message::RangeAnswer { request, position, total, bodies, done, checksum })
                if from == donor && request == expected =>
            {
                return Some(Range { position, total, bodies, done, checksum });
            }
            _ => {}
        }
    }
}

fn still_wanted(node: &Node, name: &DatabaseName, configuration: &Configuration) -> bool {
    let state = node.state();
    state.status != coequal_types::NodeStatus::ShuttingDown
        && state.databases.get(name).is_some_and(|known| {
            known.configuration.uuid == configuration.uuid
                && known.configuration.is_member(node.id)
                && joined_at(&known.configuration, node.id) == joined_at(configuration, node.id)
                && !known.configuration.dropped
        })
}

/// Epoch at which a node was taken in.
fn joined_at(configuration: &Configuration, node: NodeId) -> u64 {
    configuration.joined.get(&node).copied().unwrap_or(0)
}

/// Of the voters that are reached and ONLINE: the donor so far, while it gives.
fn choose_donor(
    node: &Node,
    configuration: &Configuration,
    before: Option<NodeId>,
    failures: &DonorFailures,
) -> Option<NodeId> {
    let state = node.state();
    let known = state.databases.get(&configuration.name).map_or(configuration, |known| &known.configuration);
    let online = |donor: &NodeId| {
        let report = state.reports.get(donor).map(|(report, _)| report);
        let status = report.and_then(|r| r.databases.iter().find(|d| d.uuid == configuration.uuid)).map(|d| d.status);
        status == Some(DatabaseStatus::Online)
    };
    let usable: Vec<NodeId> = known
        .all_voters()
        .into_iter()
        .filter(|donor| *donor != node.id && state.detector.reaches(*donor) && online(donor))
        .collect();
    auto_deploy::choose_donor(before, &usable, failures)
}

async fn open_staging(
    node: &Arc<Node>,
    name: &DatabaseName,
    configuration: &Configuration,
) -> Result<(Arc<Store>, CopyProgress), StorageError> {
    let (node, name, configuration) = (Arc::clone(node), name.clone(), configuration.clone());
    blocking(move || {
        let path = node.directory.staging_path(&name);
        let joined = joined_at(&configuration, node.id);
        if path.exists() {
            if let Ok(store) = Store::open(&path, &node.settings.store)
                && store.identity().database == configuration.uuid
                && let Some(progress) = store.meta(META_PROGRESS).and_then(|json| StoredProgress::decode(&json, joined))
            {
                return Ok((Arc::new(store), progress));
            }
            node.directory.discard_staging(&name)?;
        }
        let identity = StoreIdentity { database: configuration.uuid, name: name.clone() };
        let store = Store::create(&path, &identity, &node.settings.store)?;
        Ok((Arc::new(store), CopyProgress::default()))
    })
    .await
}

/// Refuses to go on when the rest of the copy will not fit.
fn check_space(node: &Node, progress: &CopyProgress, total: u64) -> Result<(), String> {
    let free = fs4::available_space(node.directory.path()).map_err(|e| format!("free space cannot be read: {e}"))?;
    let needed = progress.space_needed(total);
    if free < needed {
        return Err(format!(
            "the copy needs about {} MiB more, the disk has {} MiB free; free space on this node",
            needed >> 20,
            free >> 20
        ));
    }
    Ok(())
}

async fn finish(
    node: &Arc<Node>,
    name: &DatabaseName,
    configuration: &Configuration,
    store: Arc<Store>,
    progress: &CopyProgress,
) -> Result<(), StorageError> {
    let newest =
        node.state().databases.get(name).map_or_else(|| configuration.clone(), |known| known.configuration.clone());
    let (node, name, progress) = (Arc::clone(node), name.clone(), progress.clone());
    let same_member = joined_at(&newest, node.id) == joined_at(configuration, node.id);
    blocking(move || {
        if !same_member {
            // Taken out and in again meanwhile: the copy begins anew.
            drop(store);
            return node.directory.discard_staging(&name);
        }
        store.append(LogRecord::Meta { name: META_DEPLOYED.to_owned(), value: bytes::Bytes::from_static(b"1") })?;
        store.append(LogRecord::Meta { name: META_PROGRESS.to_owned(), value: bytes::Bytes::new() })?;
        for (source, feed, sequence) in progress.cursors(node.id) {
            store.append(LogRecord::Cursor { source, feed, sequence })?;
        }
        sign(&store, node.id, &newest)?;
        drop(store);
        node.directory.promote_staging(&name)?;
        tracing::info!(database = %name, entries = progress.entries, bytes = progress.bytes, "deployed; aligns now");
        Ok(())
    })
    .await
}

/// Whether a folder was copied when nothing had been collected that it might still hold alive.
fn knows_what_is_collected(copied: &Store, configuration: &Configuration) -> bool {
    let theirs = copied.meta(META_CONFIGURATION).and_then(|json| serde_json::from_slice::<Configuration>(&json).ok());
    theirs.map_or(0, |theirs| theirs.low_bound.collected) == configuration.low_bound.collected
        || broken(Fault::CollectedBelowCursor)
}

/// A folder that was copied by hand from another node: its chosen revisions become the beginning of this node's
/// own copy, its promises and accepts are left behind. The folder itself is set aside.
pub(super) async fn head_start(
    node: &Arc<Node>,
    name: &DatabaseName,
    configuration: &Configuration,
    copied: Store,
) -> Result<(), StorageError> {
    let (node, name, configuration) = (Arc::clone(node), name.clone(), configuration.clone());
    blocking(move || {
        node.directory.discard_staging(&name)?;
        if !knows_what_is_collected(&copied, &configuration) {
            drop(copied);
            let place = node.directory.set_aside(&name)?;
            tracing::info!(database = %name, place = %place.display(), "a copied folder from before tombstones were collected is no head start; set aside");
            return Ok(());
        }
        let identity = StoreIdentity { database: configuration.uuid, name: name.clone() };
        let store = Store::create(&node.directory.staging_path(&name), &identity, &node.settings.store)?;
        let mut after: Option<Key> = None;
        loop {
            let bodies = copied.scan(after.as_ref(), b"", RANGE_ENTRIES_MAX, RANGE_BYTES_MAX as usize)?;
            let Some(last) = bodies.last() else { break };
            after = Some(last.key.clone());
            for body in bodies {
                append_chosen(&store, body)?;
            }
            commit(&store)?;
        }
        store.append(LogRecord::Meta { name: META_DEPLOYED.to_owned(), value: bytes::Bytes::from_static(b"1") })?;
        sign(&store, node.id, &configuration)?;
        drop((store, copied));
        node.directory.set_aside(&name)?;
        node.directory.promote_staging(&name)?;
        tracing::info!(database = %name, "a copied folder gave a head start; aligns now");
        Ok(())
    })
    .await
}

fn say(shown: &DeployState, message: &str) {
    let mut slot = shown.message.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.as_deref() != Some(message) {
        tracing::info!(message, "deploy");
        *slot = Some(message.to_owned());
    }
}

#[allow(clippy::cast_precision_loss)]
fn show(shown: &DeployState, progress: &CopyProgress, total: u64, before: u64, elapsed: Duration) {
    let rate = (progress.entries - before) as f64 / elapsed.as_secs_f64().max(0.001);
    let left = total.saturating_sub(progress.entries) as f64;
    *shown.message.lock().unwrap_or_else(PoisonError::into_inner) = None;
    *shown.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(Progress {
        phase: SynchronizationPhase::Deploying,
        entries_done: progress.entries,
        entries_total: total.max(progress.entries),
        entries_per_second: rate,
        eta_seconds: (rate > 0.0).then(|| left / rate),
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::StoreSettings;
    use coequal_types::{DatabaseId, DatabaseSettings, LowBound};

    fn configuration(collected: u64) -> Configuration {
        Configuration {
            name: "orders".parse().unwrap(),
            uuid: DatabaseId::from_u128(7),
            epoch: 4,
            voters: vec![NodeId(1)],
            joint_with: None,
            learners: vec![],
            excluded: vec![],
            joined: Default::default(),
            dropped_uuids: vec![],
            settings: DatabaseSettings::default(),
            dropped: false,
            low_bound: LowBound { agreed: 90, collected },
        }
    }

    #[test]
    fn a_folder_from_before_something_was_collected_is_no_head_start() {
        let place = tempfile::tempdir().unwrap();
        let identity = StoreIdentity { database: configuration(0).uuid, name: configuration(0).name };
        let settings = StoreSettings { cache_bytes: 1 << 20, overlay_bytes: 1 << 20 };
        let store = Store::create(&place.path().join("orders"), &identity, &settings).unwrap();
        assert!(
            knows_what_is_collected(&store, &configuration(0)) && !knows_what_is_collected(&store, &configuration(1))
        );
        sign(&store, NodeId(1), &configuration(50)).unwrap();
        assert!(knows_what_is_collected(&store, &configuration(50)));
        assert!(!knows_what_is_collected(&store, &configuration(51)), "it may hold alive what was deleted since");
    }
}
