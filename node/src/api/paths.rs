//! Every path of the API, with its methods, in one place. The router, the `Allow` headers, the metrics
//! labels and the OpenAPI document all come from here.
//!
//! Paths are matched as they were sent, still percent-encoded, so `%2F` never separates segments; the
//! captured segments are decoded here, strictly.

use super::problem::RequestError;
use axum::extract::{FromRequestParts, MatchedPath};
use coequal_types::{CollectionName, DatabaseName, DocumentKey, NodeId, NodeName};
use http::Method;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The dashboard.
pub const DASHBOARD: &str = "/";
/// Liveness probe.
pub const LIVEZ: &str = "/livez";
/// Readiness probe.
pub const READYZ: &str = "/readyz";
/// Prometheus metrics.
pub const METRICS: &str = "/metrics";
/// The OpenAPI document.
pub const OPENAPI: &str = "/openapi.json";
/// This node.
pub const NODE: &str = "/v1/node";
/// All nodes.
pub const CLUSTER: &str = "/v1/cluster";
/// First start of a cluster.
pub const CLUSTER_INITIALIZE: &str = "/v1/cluster/initialize";
/// Going on without a majority that is lost for good.
pub const CLUSTER_RECOVER: &str = "/v1/cluster/recover";
/// Nodes of the cluster.
pub const CLUSTER_NODES: &str = "/v1/cluster/nodes";
/// One node of the cluster.
pub const CLUSTER_NODE: &str = "/v1/cluster/nodes/{node}";
/// All databases.
pub const DATABASES: &str = "/v1/databases";
/// One database.
pub const DATABASE: &str = "/v1/databases/{db}";
/// Its settings.
pub const CONFIGURATION: &str = "/v1/databases/{db}/configuration";
/// Its replication.
pub const REPLICATION: &str = "/v1/databases/{db}/replication";
/// One node in the configuration of a database.
pub const DATABASE_NODE: &str = "/v1/databases/{db}/nodes/{node}";
/// Deploys a database to a node.
pub const DEPLOY: &str = "/v1/databases/{db}/nodes/{node}/deploy";
/// Comparison of its copies.
pub const COMPARE: &str = "/v1/databases/{db}/compare";
/// Its change feed.
pub const CHANGES: &str = "/v1/databases/{db}/changes";
/// Its collections.
pub const COLLECTIONS: &str = "/v1/databases/{db}/collections";
/// One collection.
pub const COLLECTION: &str = "/v1/databases/{db}/collections/{collection}";
/// Its documents.
pub const DOCUMENTS: &str = "/v1/databases/{db}/collections/{collection}/documents";
/// One document.
pub const DOCUMENT: &str = "/v1/databases/{db}/collections/{collection}/documents/{key}";
/// Many writes in one request.
pub const BATCH: &str = "/v1/databases/{db}/collections/{collection}/documents:batch";
/// All documents of a collection as a stream.
pub const EXPORT: &str = "/v1/databases/{db}/collections/{collection}/export";

/// Which bound a request counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Always answered: probes, metrics and the pages for people.
    Free,
    /// One answer of bounded size.
    Request,
    /// An answer or a body that streams.
    Stream,
}

/// One path with its methods.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The template.
    pub path: &'static str,
    /// Methods that it answers; `HEAD` comes with `GET` and is not listed.
    pub methods: &'static [Method],
    /// Which bound its requests count against.
    pub load: Load,
}

const fn route(path: &'static str, load: Load, methods: &'static [Method]) -> Route {
    Route { path, methods, load }
}

/// All routes.
pub const ROUTES: &[Route] = &[
    route(DASHBOARD, Load::Free, &[Method::GET]),
    route(LIVEZ, Load::Free, &[Method::GET]),
    route(READYZ, Load::Free, &[Method::GET]),
    route(METRICS, Load::Free, &[Method::GET]),
    route(OPENAPI, Load::Free, &[Method::GET]),
    route(NODE, Load::Request, &[Method::GET]),
    route(CLUSTER, Load::Request, &[Method::GET]),
    route(CLUSTER_INITIALIZE, Load::Request, &[Method::POST]),
    route(CLUSTER_RECOVER, Load::Request, &[Method::POST]),
    route(CLUSTER_NODES, Load::Request, &[Method::POST]),
    route(CLUSTER_NODE, Load::Request, &[Method::DELETE]),
    route(DATABASES, Load::Request, &[Method::GET]),
    route(DATABASE, Load::Request, &[Method::GET, Method::PUT, Method::DELETE]),
    route(CONFIGURATION, Load::Request, &[Method::PATCH]),
    route(REPLICATION, Load::Request, &[Method::GET]),
    route(DATABASE_NODE, Load::Request, &[Method::DELETE]),
    route(DEPLOY, Load::Request, &[Method::POST]),
    route(COMPARE, Load::Request, &[Method::GET, Method::POST]),
    route(CHANGES, Load::Stream, &[Method::GET]),
    route(COLLECTIONS, Load::Request, &[Method::GET]),
    route(COLLECTION, Load::Request, &[Method::PUT, Method::DELETE]),
    route(DOCUMENTS, Load::Request, &[Method::GET, Method::POST]),
    route(DOCUMENT, Load::Request, &[Method::GET, Method::PUT, Method::PATCH, Method::DELETE]),
    route(BATCH, Load::Stream, &[Method::POST]),
    route(EXPORT, Load::Stream, &[Method::GET]),
];

/// The route of a template.
pub fn find(template: &str) -> Option<(usize, &'static Route)> {
    ROUTES.iter().enumerate().find(|(_, route)| route.path == template)
}

/// Value of the `Allow` header of a route.
pub fn allow(route: &Route) -> String {
    let mut names = Vec::new();
    for method in route.methods {
        names.push(method.as_str());
        if *method == Method::GET {
            names.push("HEAD");
        }
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// Where a document is found.
pub fn document_location(database: &DatabaseName, collection: &CollectionName, key: &str) -> String {
    format!("/v1/databases/{database}/collections/{collection}/documents/{}", encode_segment(key))
}

/// RFC 3986, section 2.3: what needs no escape.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes one path segment.
pub fn encode_segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Decodes one path segment: every `%` must begin an escape, and the bytes must be UTF-8.
pub fn decode_segment(raw: &str) -> Result<String, RequestError> {
    let wrong = |fault: &str| RequestError::MalformedPath(format!("path segment {:?} {fault}", cut(raw)));
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else { return Err(wrong("ends inside an escape; write % as %25")) };
        let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16)) else {
            return Err(wrong("has a % that two hexadecimal digits do not follow; write % as %25"));
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or(0));
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 when decoded"))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The captured segments of a request's path, decoded.
#[derive(Debug, Clone)]
pub struct PathNames(Vec<(&'static str, String)>);

impl PathNames {
    /// Reads `raw` by a template that it is known to match.
    pub fn read(template: &'static str, raw: &str) -> Result<Self, RequestError> {
        let mut found = Vec::new();
        for (name, value) in template.split('/').zip(raw.split('/')) {
            if let Some(name) = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')) {
                found.push((name, decode_segment(value)?));
            }
        }
        Ok(Self(found))
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// The database of the path.
    pub fn database(&self) -> Result<DatabaseName, RequestError> {
        Ok(self.get("db").parse()?)
    }

    /// The collection of the path.
    pub fn collection(&self) -> Result<CollectionName, RequestError> {
        Ok(self.get("collection").parse()?)
    }

    /// The document key of the path.
    pub fn key(&self) -> Result<DocumentKey, RequestError> {
        Ok(self.get("key").parse()?)
    }

    /// The node of the path: an id or a name.
    pub fn node(&self) -> Result<&str, RequestError> {
        let text = self.get("node");
        if text.parse::<NodeId>().is_err() {
            text.parse::<NodeName>()?;
        }
        Ok(text)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathNames {
    type Rejection = super::problem::Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let route = parts.extensions.get::<MatchedPath>().and_then(|matched| find(matched.as_str()));
        let (_, route) = route.ok_or_else(|| RequestError::PathNotFound(cut(parts.uri.path())))?;
        Ok(Self::read(route.path, parts.uri.path())?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_through_a_path() {
        for key in ["a", "a/b", "100%", "%2F", "?x=1#y", "Zürich", "日本/東京", " ", "..", ":batch", "+"] {
            let location = document_location(&"db".parse().unwrap(), &"c".parse().unwrap(), key);
            let names = PathNames::read(DOCUMENT, &location).expect(&location);
            assert_eq!(names.key().unwrap().as_str(), key, "{location}");
        }
    }

    #[test]
    fn broken_escapes_and_broken_utf_8_are_refused() {
        for raw in ["%", "%2", "%ZZ", "a%+1", "%FF", "%C3", "%ED%A0%80"] {
            assert!(matches!(decode_segment(raw), Err(RequestError::MalformedPath(_))), "{raw}");
        }
    }

    #[test]
    fn control_characters_and_long_keys_are_refused_by_name() {
        let read = |key: &str| {
            PathNames::read(DOCUMENT, &format!("/v1/databases/d/collections/c/documents/{key}")).unwrap().key()
        };
        assert!(matches!(read("%00"), Err(RequestError::MalformedName(_))));
        assert!(matches!(read(&"k".repeat(513)), Err(RequestError::MalformedName(_))));
        assert!(read(&"k".repeat(512)).is_ok());
    }

    #[test]
    fn a_node_is_named_by_id_or_name() {
        let read = |node: &str| {
            PathNames::read(CLUSTER_NODE, &format!("/v1/cluster/nodes/{node}")).unwrap().node().map(str::to_owned)
        };
        assert!(read("00000000000000ab").is_ok() && read("db-0").is_ok());
        assert!(read("DB").is_err());
    }
}
