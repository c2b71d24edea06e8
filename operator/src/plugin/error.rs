//! Why the plugin could not do what it was asked, in words that say what to do.

use super::args::{EXIT_NOT_WELL, EXIT_USAGE};

const INSTALL: &str = "helm install coequal-operator charts/coequal-operator, or \
                       kubectl apply --server-side -f crds/replicateddatabases.coequal.dev.yaml";

/// One way to fail.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no usable kubeconfig.
    #[error("no way to a Kubernetes API server: {0}; set KUBECONFIG or give --kubeconfig FILE")]
    NoWay(String),
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context {wanted:?}; it has {}", listed(known))]
    NoContext {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The API server does not answer.
    #[error("the API server does not answer: {0}")]
    NoAnswer(String),
    /// The API server does not know who we are.
    #[error("the API server does not accept these credentials (401): log in again, or choose another --context")]
    Unauthorized,
    /// A right is missing.
    #[error(
        "you may not {verb} {resource} in {place}: {message}\n\
         Somebody with more rights can allow it with a Role: apiGroups [{group}], resources [{resource}], verbs [{verb}]"
    )]
    Forbidden {
        /// What was tried.
        verb: &'static str,
        /// API group, empty for the core.
        group: &'static str,
        /// On which resource.
        resource: &'static str,
        /// Where.
        place: String,
        /// What the API server says.
        message: String,
    },
    /// The definition is not there.
    #[error("this Kubernetes knows no ReplicatedDatabase; install the operator: {INSTALL}")]
    NotInstalled,
    /// There is no resource of that name.
    #[error("there is no ReplicatedDatabase {name:?} in namespace {namespace}{hint}")]
    NotFound {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
        /// What was perhaps meant.
        hint: String,
    },
    /// What was asked for makes no sense, or is not safe.
    #[error("{0}")]
    Refused(String),
    /// The API server refused it.
    #[error("the API server refuses: {0}")]
    Api(String),
    /// Nobody takes what is said.
    #[error("the output cannot be written: {0}")]
    Output(std::io::Error),
}

impl PluginError {
    /// 2 when the command line is wrong, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoContext { .. } | Self::NotFound { .. } | Self::Refused(_) => EXIT_USAGE,
            _ => EXIT_NOT_WELL,
        }
    }
}

/// What was being done, for the words of a failure.
#[derive(Debug, Clone, Copy)]
pub struct Tried<'a> {
    /// The verb as in a Role.
    pub verb: &'static str,
    /// The API group as in a Role.
    pub group: &'static str,
    /// The resource as in a Role.
    pub resource: &'static str,
    /// The namespace; `None` for all.
    pub namespace: Option<&'a str>,
}

impl<'a> Tried<'a> {
    /// Something with ReplicatedDatabases.
    pub fn on_resources(verb: &'static str, namespace: Option<&'a str>) -> Self {
        Self { verb, group: crate::crd::GROUP, resource: "replicateddatabases", namespace }
    }

    /// The failure of a call in words.
    pub fn failed(self, error: kube::Error) -> PluginError {
        match error {
            kube::Error::Api(status) if status.code == 401 => PluginError::Unauthorized,
            kube::Error::Api(status) if status.code == 403 => PluginError::Forbidden {
                verb: self.verb,
                group: self.group,
                resource: self.resource,
                place: self.namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}")),
                message: status.message.clone(),
            },
            kube::Error::Api(status) => PluginError::Api(status.message.clone()),
            other => PluginError::NoAnswer(innermost(&other)),
        }
    }
}

/// The innermost cause: the outer ones say that something went wrong, this one says what.
fn innermost(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
