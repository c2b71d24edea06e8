//! Brings certificates and tokens to what they should be, a bounded number of steps at a time.

use super::held::{self, Authority, Leaf, MADE_BECAUSE, Pair, RENEWED};
use super::names::{ca_name, tls_name, tls_secret, tokens_secret};
use super::plan::{self, Facts, Held, NodeFacts, Validity, Work};
use super::secrets::{Found, Secrets, Texts};
use super::tokens::{self, TokenWork};
use super::{issue, trust};
use crate::controller::validate::ValidatedDatabaseCluster;
use crate::crd::{ConditionReason as R, ReplicatedDatabase};
use crate::kubernetes::apply::Belongs;
use crate::kubernetes::context::Context;
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::names::{self, RENEW_AUTHORITY, RENEW_CERTIFICATES};
use crate::kubernetes::status::Obstacle;
use crate::kubernetes::{observe, pods, stores};
use crate::nodes::NodeClient;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use rustls::pki_types::CertificateDer;
use std::time::{Duration, Instant};

/// Steps in one turn: an authority, a certificate, and who trusts it.
const STEPS_MAX: u32 = 4;
/// How long what was found is taken for granted: Secrets are read by name, not watched.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// The same while the nodes serve with what they have: two hundred clusters would cost ten requests a second for nothing.
const KEPT_WHILE_READY: Duration = Duration::from_secs(300);
/// A certificate of somebody else that ends this soon is worth a warning.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Longest text of a person that is remembered.
const TEXT_CHARACTERS_MAX: usize = 200;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Secured {
    /// The client for the nodes; `None` while there is no certificate for it.
    pub client: Option<reqwest::Client>,
    /// Whom clients trust, in PEM form.
    pub trusted: Option<String>,
    /// Whether nodes have all that they need to start.
    pub may_start: bool,
    /// The condition `CertificatesValid`.
    pub condition: (bool, R, String),
    /// What a person has to put right.
    pub obstacles: Vec<Obstacle>,
    /// What a person should know.
    pub warnings: Vec<(&'static str, String)>,
    /// What was done: reason and words of an Event.
    pub done: Vec<(&'static str, String)>,
    /// Whether something is under way that the nodes have a part in.
    pub is_under_way: bool,
}

/// What every step works with.
struct Securing<'a> {
    context: &'a Context,
    secrets: Secrets<'a>,
    cluster: &'a str,
    namespace: &'a str,
    uid: String,
    now: Timestamp,
    renew_leaf: Option<String>,
    renew_authority: Option<String>,
}

/// Looks at the Secrets, and makes or renews what has to be.
pub async fn ensure(
    context: &Context,
    resource: &ReplicatedDatabase,
    namespace: &str,
    wish: &ValidatedDatabaseCluster,
    now: Timestamp,
) -> Result<Secured, ReconcileError> {
    let asked = |annotation: &str| {
        let text = resource.annotations().get(annotation)?;
        Some(text.chars().take(TEXT_CHARACTERS_MAX).collect::<String>())
    };
    let uid = resource.uid().unwrap_or_default();
    let work = Securing {
        context,
        secrets: Secrets::new(context, resource, namespace),
        cluster: &wish.name,
        namespace,
        uid: uid.clone(),
        now,
        renew_leaf: asked(RENEW_CERTIFICATES),
        renew_authority: asked(RENEW_AUTHORITY),
    };
    let wanted = format!("{:?} {:?} {:?}", wish.certificate_secret, work.renew_leaf, work.renew_authority);
    let kept = context.remember(&uid, |memory| memory.secured.clone());
    if let Some((at, for_what, secured)) = kept
        && for_what == wanted
        && at.elapsed() < kept_for(resource)
    {
        return Ok(secured);
    }
    let result = async {
        let mut secured = match &wish.certificate_secret {
            Some(name) => work.provided(name).await?,
            None => work.own().await?,
        };
        work.tokens(&mut secured).await?;
        Ok(secured)
    };
    let secured = result.await.or_else(|error: ReconcileError| match error.refusal() {
        Some(message) => Ok(Secured::without(R::RequestRefused, message)),
        None => Err(error),
    })?;
    let is_settled = secured.obstacles.is_empty() && secured.done.is_empty() && !secured.is_under_way;
    context.remember(&uid, |memory| {
        memory.secured = is_settled.then(|| (Instant::now(), wanted, secured.clone()));
    });
    Ok(secured)
}

/// How long what was found in the Secrets of this resource holds. Its owner looks after a certificate of his own, and
/// waits for what is said of it.
fn kept_for(resource: &ReplicatedDatabase) -> Duration {
    let conditions = resource.status.iter().flat_map(|status| &status.conditions);
    let is_ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    match is_ready && resource.spec.tls.as_ref().is_none_or(|tls| tls.certificate_secret_name.is_none()) {
        true => KEPT_WHILE_READY,
        false => KEPT_FOR,
    }
}

impl Secured {
    /// Nothing works before a person acts.
    fn without(reason: R, message: String) -> Self {
        let obstacle = Obstacle { reason, message: message.clone() };
        Self { obstacles: vec![obstacle], ..Self::waiting(reason, message) }
    }

    /// Nothing works yet.
    fn waiting(reason: R, message: String) -> Self {
        Self {
            client: None,
            trusted: None,
            may_start: false,
            condition: (false, reason, message),
            obstacles: Vec::new(),
            warnings: Vec::new(),
            done: Vec::new(),
            is_under_way: true,
        }
    }
}

/// What the operator's own Secrets hold.
struct Own {
    ca: Option<Found>,
    tls: Option<Found>,
    authority: Held<Authority>,
    leaf: Held<Leaf>,
}

impl Securing<'_> {
    /// Certificates that the operator looks after.
    async fn own(&self) -> Result<Secured, ReconcileError> {
        let mut done = Vec::new();
        for _ in 0..STEPS_MAX {
            let own = self.read_own().await?;
            if let Some(secured) = self.not_ours(&own) {
                return Ok(secured);
            }
            let work = self.next(&own).await?;
            tracing::debug!(?work, "certificates");
            if let Work::Wait(_) | Work::Nothing = work {
                let mut secured = self.secured(&own, &work);
                secured.done = done;
                return Ok(secured);
            }
            done.extend(self.carry_out(&own, &work).await?);
        }
        let mut secured = Secured::waiting(R::CertificatesMissing, "certificates are being made".to_owned());
        secured.done = done;
        Ok(secured)
    }

    async fn read_own(&self) -> Result<Own, ReconcileError> {
        let ca = self.secrets.read(&ca_name(self.cluster)).await?;
        let tls = self.secrets.read(&tls_secret(self.cluster, None)).await?;
        let authority = held::authority(ca.as_ref().map(|found| &found.content));
        let leaf = match &authority {
            Held::Good(authority) => {
                held::leaf(tls.as_ref().map(|found| &found.content), authority, self.cluster, self.namespace)
            }
            _ => Held::Absent,
        };
        Ok(Own { ca, tls, authority, leaf })
    }

    /// Secrets of these names that somebody else made are not touched.
    fn not_ours(&self, own: &Own) -> Option<Secured> {
        let names = [(ca_name(self.cluster), &own.ca), (tls_secret(self.cluster, None), &own.tls)];
        names.into_iter().find_map(|(name, found)| match found.as_ref()?.belongs {
            Belongs::Ours => None,
            Belongs::Predecessor => {
                let message = format!("waiting for Secret {name} of the deleted resource to go");
                Some(Secured::waiting(R::CertificatesMissing, message))
            }
            Belongs::Stranger => Some(Secured::without(R::ForeignObject, foreign(&name))),
        })
    }

    async fn next(&self, own: &Own) -> Result<Work, ReconcileError> {
        let authority = own.authority.facts(|authority| authority.facts.clone());
        let leaf = own.leaf.facts(|leaf| leaf.facts.clone());
        let decide = |nodes: NodeFacts| {
            plan::next(&Facts {
                now: self.now,
                authority: &authority,
                leaf: &leaf,
                nodes,
                renew_leaf: self.renew_leaf.as_deref(),
                renew_authority: self.renew_authority.as_deref(),
            })
        };
        let (least, most) = (NodeFacts::default(), NodeFacts { trust_active: true, show_active: true });
        match &own.authority {
            // The nodes are asked only where it matters.
            Held::Good(authority) if decide(least) != decide(most) => Ok(decide(self.ask_nodes(authority).await?)),
            _ => Ok(decide(least)),
        }
    }

    /// Whom the nodes trust and what they show, by meeting them with a certificate of the new authority.
    async fn ask_nodes(&self, authority: &Authority) -> Result<NodeFacts, ReconcileError> {
        let own = issue::probe(authority, self.cluster, self.namespace, self.now).map_err(of_no_use)?;
        let name = tls_name(self.cluster, self.namespace);
        let client = |trusted: &[CertificateDer<'static>]| {
            trust::client(&own, trusted, &name).map_err(ReconcileError::Certificates)
        };
        let trusting_all = client(&authority.trusted)?;
        let trusting_active = client(authority.trusted.get(..1).unwrap_or_default())?;
        let mut facts = NodeFacts { trust_active: true, show_active: true };
        for pod in stores::of(&self.context.stores.pods, self.namespace, self.cluster) {
            if !pods::runs(&pod) || observe::machine(self.context, &pod).await? != pods::Machine::Fine {
                continue;
            }
            let Some(url) = pods::api_url(&pod) else { continue };
            let meets =
                async |client: &reqwest::Client| NodeClient::new(client.clone(), url.clone()).ready().await.is_ok();
            if !meets(&trusting_all).await {
                return Ok(NodeFacts::default());
            }
            facts.show_active = facts.show_active && meets(&trusting_active).await;
        }
        Ok(facts)
    }

    /// One step; what was done, in words.
    async fn carry_out(&self, own: &Own, work: &Work) -> Result<Option<(&'static str, String)>, ReconcileError> {
        let (cluster, namespace) = (self.cluster, self.namespace);
        let (ca, tls) = (ca_name(cluster), tls_secret(cluster, None));
        match (work, &own.authority) {
            (Work::MakeAuthority(why), _) => {
                let pair = issue::authority(cluster, namespace, self.now).map_err(of_no_use)?;
                let before = held::still_trusted(own.ca.as_ref().map(|found| &found.content), self.now);
                let by_nodes = held::still_trusted(own.tls.as_ref().map(|found| &found.content), self.now);
                let mut trusted: Vec<_> = issue::first(&pair).into_iter().collect();
                trusted.extend(if before.is_empty() { by_nodes } else { before });
                let annotations = [(RENEWED, self.renew_authority.as_deref()), (MADE_BECAUSE, Some(why.word()))];
                self.secrets.write(&ca, own.ca.as_ref(), texts(&pair, &trusted), &annotations).await?;
                Ok(Some(("AuthorityMade", format!("a new authority stands in Secret {ca}: {}", why.words()))))
            }
            (Work::Issue(why), Held::Good(authority)) => {
                let pair = issue::leaf(authority, cluster, namespace, self.now).map_err(of_no_use)?;
                let texts = texts(&pair, &authority.trusted);
                self.secrets.write(&tls, own.tls.as_ref(), texts, &[(RENEWED, self.renew_leaf.as_deref())]).await?;
                let words = format!("a new certificate for the nodes stands in Secret {tls}: {}", why.words());
                Ok(Some(("CertificateIssued", words)))
            }
            (Work::Trust, Held::Good(authority)) => {
                let text = trusting(&authority.trusted);
                self.secrets.write(&tls, own.tls.as_ref(), text, &[]).await?;
                let words = format!("nodes and clients trust {} authorities now", authority.trusted.len());
                Ok(Some(("TrustChanged", words)))
            }
            (Work::DropPrevious, Held::Good(authority)) => {
                let text = trusting(authority.trusted.get(..1).unwrap_or_default());
                self.secrets.write(&ca, own.ca.as_ref(), text, &[]).await?;
                Ok(Some(("AuthorityDropped", "the earlier authority is not trusted any more".to_owned())))
            }
            _ => Ok(None),
        }
    }

    /// What the rest of the turn works with.
    fn secured(&self, own: &Own, work: &Work) -> Secured {
        let (Held::Good(authority), Held::Good(leaf)) = (&own.authority, &own.leaf) else {
            return Secured::waiting(R::CertificatesMissing, "certificates are being made".to_owned());
        };
        let mut message = format!(
            "the nodes' certificate is valid until {} and renewed from {} on; its authority is valid until {}",
            leaf.facts.validity.until,
            leaf.facts.validity.renewal(),
            authority.facts.validity.until,
        );
        let mut reason = R::CertificatesIssued;
        if let Work::Wait(what) = work {
            reason = R::RotatingAuthority;
            message += &format!("; waiting for {what}");
        }
        let mut secured = self.usable(&leaf.pair, &authority.trusted, reason, message);
        secured.is_under_way = matches!(work, Work::Wait(_));
        secured
    }

    fn usable(&self, pair: &Pair, trusted: &[CertificateDer<'static>], reason: R, message: String) -> Secured {
        let bundle = issue::bundle(trusted);
        match self.client(pair, trusted, &bundle) {
            Ok(client) => Secured {
                client: Some(client),
                trusted: Some(bundle),
                may_start: true,
                condition: (true, reason, message),
                is_under_way: false,
                ..Secured::waiting(reason, String::new())
            },
            Err(wrong) => Secured::without(R::CertificatesInvalid, wrong),
        }
    }

    /// The client of last time if nothing changed: its connections stay open.
    fn client(
        &self,
        pair: &Pair,
        trusted: &[CertificateDer<'static>],
        bundle: &str,
    ) -> Result<reqwest::Client, String> {
        let made_from = names::fnv64(format!("{}{bundle}", pair.certificate).as_bytes());
        let kept = self.context.remember(&self.uid, |memory| memory.client.clone());
        if let Some((from, client)) = kept
            && from == made_from
        {
            return Ok(client);
        }
        let client = trust::client(pair, trusted, &tls_name(self.cluster, self.namespace))?;
        self.context.remember(&self.uid, |memory| memory.client = Some((made_from, client.clone())));
        Ok(client)
    }

    /// Certificates that a person looks after: they are checked, and never touched.
    async fn provided(&self, name: &str) -> Result<Secured, ReconcileError> {
        let dns = tls_name(self.cluster, self.namespace);
        let Some(found) = self.secrets.read(name).await? else {
            let message = format!(
                "Secret {name} of spec.tls.certificateSecretName does not exist: make it, with tls.crt, tls.key and \
                 ca.crt, for the DNS name {dns}"
            );
            return Ok(Secured::without(R::CertificatesMissing, message));
        };
        let checked = held::provided(&found.content, &dns, self.now)
            .and_then(|good| Ok((good, held::certificates(&found.content, held::TRUSTED)?)));
        match checked {
            Ok(((pair, validity), trusted)) => Ok(self.with_provided(name, &pair, validity, &trusted)),
            Err(wrong) => {
                let message = format!("Secret {name} of spec.tls.certificateSecretName: {wrong}");
                // Nodes keep the last certificate that was good, and so does this operator.
                let client = self.context.remember(&self.uid, |memory| memory.client.clone()).map(|(_, client)| client);
                Ok(Secured { client, ..Secured::without(R::CertificatesInvalid, message) })
            }
        }
    }

    fn with_provided(
        &self,
        name: &str,
        pair: &Pair,
        validity: Validity,
        trusted: &[CertificateDer<'static>],
    ) -> Secured {
        let message = format!("the certificate in Secret {name} is valid until {}", validity.until);
        let mut secured = self.usable(pair, trusted, R::CertificatesProvided, message.clone());
        if validity.until.duration_since(self.now) < ENDS_SOON {
            secured.warnings.push(("CertificateEndsSoon", format!("{message}: renew it")));
        }
        secured
    }

    /// Tokens for clients.
    async fn tokens(&self, secured: &mut Secured) -> Result<(), ReconcileError> {
        let name = tokens_secret(self.cluster);
        let found = self.secrets.read(&name).await?;
        let belongs = found.as_ref().map_or(Belongs::Ours, |found| found.belongs);
        if belongs == Belongs::Predecessor {
            (secured.may_start, secured.is_under_way) = (false, true);
            return Ok(());
        }
        match tokens::next(found.as_ref().map(|found| &found.content.data), belongs == Belongs::Ours) {
            TokenWork::Nothing => {}
            TokenWork::Make(keys) => {
                let mut texts = Texts::new();
                for key in &keys {
                    texts.insert((*key).to_owned(), tokens::token(random()?));
                }
                self.secrets.write(&name, found.as_ref(), texts, &[]).await?;
                let note = format!("Secret {name} has new tokens: {}", keys.join(", "));
                secured.done.push(("TokensMade", note));
            }
            TokenWork::Wrong(wrong) => {
                let message = format!("Secret {name}: {wrong}");
                secured.obstacles.push(Obstacle { reason: R::TokensInvalid, message });
                secured.may_start = false;
            }
        }
        Ok(())
    }
}

impl<T> Held<T> {
    /// The part that the decision looks at.
    fn facts<F>(&self, of: impl Fn(&T) -> F) -> Held<F> {
        match self {
            Self::Absent => Held::Absent,
            Self::Broken(wrong) => Held::Broken(wrong.clone()),
            Self::Good(good) => Held::Good(of(good)),
        }
    }
}

fn trusting(trusted: &[CertificateDer<'static>]) -> Texts {
    Texts::from([(held::TRUSTED.to_owned(), issue::bundle(trusted))])
}

fn texts(pair: &Pair, trusted: &[CertificateDer<'static>]) -> Texts {
    let mut texts = trusting(trusted);
    texts.insert(held::CERTIFICATE.to_owned(), pair.certificate.clone());
    texts.insert(held::KEY.to_owned(), pair.key.clone());
    texts
}

fn foreign(name: &str) -> String {
    format!(
        "Secret {name} exists and does not belong to this resource; it was not touched. Delete or rename it, give this \
         resource another name, or name it in spec.tls.certificateSecretName if it holds the nodes' certificate"
    )
}

fn of_no_use(error: issue::IssueError) -> ReconcileError {
    ReconcileError::Certificates(error.to_string())
}

fn random() -> Result<[u8; 32], ReconcileError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ReconcileError::Certificates(format!("no random numbers: {error}")))?;
    Ok(bytes)
}
