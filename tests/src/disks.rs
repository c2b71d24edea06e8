//! Disks under test: small ones that can be filled, slow ones, and older images of them.

use crate::preload::Preload;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A file system of its own in a directory that exists; gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

const BALLAST: &str = "ballast";

impl SmallDisk {
    /// Mounts it, with what the directory held before; `None` where that is not permitted (it takes root).
    pub fn under(place: &Path, megabytes: u32) -> Option<Self> {
        let before = place.with_extension("before");
        std::fs::rename(place, &before).expect("moved away");
        std::fs::create_dir(place).expect("a place to mount at");
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "coequal-test"]).arg(place).output();
        let mounted = mounted.is_ok_and(|output| output.status.success()).then(|| Self { place: place.to_owned() });
        copy(&before, place);
        mounted
    }

    /// Not a byte is left.
    pub fn fill(&self) {
        let mut file = File::create(self.place.join(BALLAST)).expect("a file");
        for size in [1 << 20, 4096, 1] {
            let block = vec![1u8; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    /// There is space again.
    pub fn make_space(&self) {
        let _ = std::fs::remove_file(self.place.join(BALLAST));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).output();
    }
}

/// The disk of one process, whose every sync takes longer by what was said last.
#[derive(Debug)]
pub struct SlowDisk(Preload);

impl SlowDisk {
    /// One that is as quick as the machine's; its files stand in `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self(Preload::new(folder, "slow_disk", name, "COEQUAL_TEST_SLOW_DISK"))
    }

    /// Also for a sync that waits already; zero lets it go on.
    pub fn set(&self, delay: Duration) {
        self.0.set(i64::try_from(delay.as_nanos()).expect("less than centuries"));
    }

    /// What its process is started with.
    pub fn preload(&self) -> &Preload {
        &self.0
    }
}

/// Copies what is in a directory into another one.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "-T"]).arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "{} is copied to {}", from.display(), to.display());
}

/// Everything in a directory is gone; the directory stays, as a mounted disk does.
pub fn wipe(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory").filter_map(Result::ok) {
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.expect("removed");
    }
}

/// A copy of the disk of a node that does not run.
pub fn take_image(directory: &Path) -> PathBuf {
    let image = directory.with_extension("image");
    let _ = std::fs::remove_dir_all(&image);
    copy(directory, &image);
    image
}

/// Puts an image in the place of the disk of a node that does not run. Its next start is one that the others have not
/// seen, as if it had been tried often enough: before that they take it for a second process.
pub fn restore_image(directory: &Path, image: &Path) {
    let starts = |place: &Path| -> serde_json::Value {
        let text = std::fs::read_to_string(place.join("identity.json")).expect("identity");
        serde_json::from_str(&text).expect("JSON")
    };
    let seen = starts(directory)["starts"].clone();
    wipe(directory);
    copy(image, directory);
    let mut identity = starts(directory);
    identity["starts"] = seen;
    std::fs::write(directory.join("identity.json"), identity.to_string()).expect("written");
}
