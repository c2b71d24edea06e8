//! What each request takes and gives, in words: one entry for each method of each route.

use super::paths as p;

/// What a parameter's text may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// A number in a range.
    Number(usize, usize),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A query parameter or header.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name; a header begins with a capital letter.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it does.
    pub text: &'static str,
}

/// What a body holds.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Nothing.
    Empty,
    /// A schema of `coequal_types::rest`, as `application/json`.
    Schema(&'static str),
    /// A document, as `application/json`.
    Document,
    /// A merge patch.
    MergePatch,
    /// Lines of these schemas, as `application/x-ndjson`.
    Lines(&'static [&'static str]),
    /// Lines or server-sent events of a schema.
    LinesOrEvents(&'static str),
    /// Text of another media type.
    Text(&'static str),
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// When.
    pub text: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Headers besides those of every answer.
    pub headers: &'static [&'static str],
}

/// One method of one route.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The method.
    pub method: &'static str,
    /// The template.
    pub path: &'static str,
    /// Name for generated clients.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Query parameters and headers.
    pub params: &'static [Param],
    /// Body of the request; whether it must be there.
    pub body: (Shape, bool),
    /// Good answers.
    pub answers: &'static [Answer],
    /// Statuses of refusals besides 400, 429 and 503.
    pub problems: &'static [u16],
}

const fn param(name: &'static str, kind: Kind, text: &'static str) -> Param {
    Param { name, kind, text }
}
const fn answer(status: u16, text: &'static str, shape: Shape) -> Answer {
    Answer { status, text, shape, headers: &[] }
}
const fn tagged(status: u16, text: &'static str, shape: Shape) -> Answer {
    Answer { status, text, shape, headers: &["ETag", "Coequal-Session"] }
}
const fn located(text: &'static str, shape: Shape) -> Answer {
    Answer { status: 201, text, shape, headers: &["Location", "ETag", "Coequal-Session"] }
}
const fn entry(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Entry {
    Entry { method, path, id, summary, params: &[], body: (Shape::Empty, false), answers: &[], problems: &[] }
}

const IF_MATCH: Param = param(
    "If-Match",
    Kind::Text,
    "One ETag of an earlier answer, or *: 412 unless the document is at that revision (or exists)",
);
const IF_NONE_MATCH: Param = param(
    "If-None-Match",
    Kind::Text,
    "On reads a list of ETags: 304 when one matches. On writes only *: 412 when the document exists",
);
const SESSION: Param =
    param("Coequal-Session", Kind::Text, "Session token of an earlier answer: reads are never older than it");
const IDEMPOTENCY_KEY: Param = param(
    "Idempotency-Key",
    Kind::Text,
    "1 to 255 visible ASCII characters that name this write: an exact retry returns the first result, another request with the same name is refused with 422. Without it the node makes a name up, and an answer with outcome unknown tells it in requestId",
);
const DOCUMENT_WRITE: &[Param] = &[IF_MATCH, IF_NONE_MATCH, IDEMPOTENCY_KEY, SESSION];
const WRITE_RESULT: Shape = Shape::Schema("WriteResult");
const DATABASE: Shape = Shape::Schema("DatabaseDescription");
const CLUSTER: Shape = Shape::Schema("ClusterDescription");
const REPLICATION: Shape = Shape::Schema("ReplicationDescription");
const COMPARISON: Shape = Shape::Schema("ComparisonDescription");
const COLLECTION: Shape = Shape::Schema("CollectionDescription");

/// All entries, in the order of the routes.
pub const ENTRIES: &[Entry] = &[
    Entry {
        answers: &[answer(200, "A page that shows the cluster as this node sees it", Shape::Text("text/html"))],
        ..entry("GET", p::DASHBOARD, "showDashboard", "Dashboard for people")
    },
    Entry {
        answers: &[answer(200, "The process runs", Shape::Text("text/plain"))],
        ..entry("GET", p::LIVEZ, "live", "Liveness probe")
    },
    Entry {
        params: &[param("verbose", Kind::Flag, "Lists the checks that hold, too; those that fail are always listed")],
        answers: &[
            answer(200, "The node serves what it should serve", Shape::Text("text/plain")),
            answer(503, "It does not yet, or no longer; the failing checks, one a line", Shape::Text("text/plain")),
        ],
        ..entry("GET", p::READYZ, "ready", "Readiness probe")
    },
    Entry {
        answers: &[answer(200, "Prometheus text format, version 0.0.4", Shape::Text("text/plain"))],
        ..entry("GET", p::METRICS, "showMetrics", "Metrics")
    },
    Entry {
        answers: &[answer(200, "This document", Shape::Text("application/json"))],
        ..entry("GET", p::OPENAPI, "showOpenapi", "OpenAPI document")
    },
    Entry {
        answers: &[answer(200, "This node", Shape::Schema("NodeDescription"))],
        ..entry("GET", p::NODE, "describeNode", "This node: id, incarnation, status, version, databases")
    },
    Entry {
        answers: &[answer(200, "All nodes", CLUSTER)],
        ..entry("GET", p::CLUSTER, "describeCluster", "All nodes as this node sees them")
    },
    Entry {
        answers: &[
            answer(201, "The cluster was made", CLUSTER),
            answer(200, "The node belongs to this cluster already; nothing was changed", CLUSTER),
        ],
        problems: &[409],
        ..entry(
            "POST",
            p::CLUSTER_INITIALIZE,
            "initializeCluster",
            "Makes a cluster of this one node, once at the very start",
        )
    },
    Entry {
        body: (Shape::Schema("RecoverCluster"), true),
        answers: &[
            answer(200, "It is done, now or before", Shape::Schema("ForcedRecovery")),
            answer(202, "It is in force and on disk, and is being finished", Shape::Schema("ForcedRecovery")),
        ],
        problems: &[409, 413, 415, 422],
        ..entry(
            "POST",
            p::CLUSTER_RECOVER,
            "recoverCluster",
            "Goes on without a majority of nodes that is lost for good; what only they held is lost. Never while a majority is reached",
        )
    },
    Entry {
        body: (Shape::Schema("AddNode"), true),
        answers: &[answer(202, "The node is being taken in", CLUSTER)],
        problems: &[409, 413, 415, 422],
        ..entry("POST", p::CLUSTER_NODES, "addNode", "Adds a node to the cluster")
    },
    Entry {
        answers: &[answer(202, "The node is being taken out of every database, one step at a time", CLUSTER)],
        problems: &[404, 409],
        ..entry("DELETE", p::CLUSTER_NODE, "removeNode", "Removes a node from the cluster")
    },
    Entry {
        answers: &[answer(200, "All databases that this node knows, by name", Shape::Schema("DatabaseList"))],
        ..entry("GET", p::DATABASES, "listDatabases", "All databases")
    },
    Entry {
        answers: &[answer(200, "The database", DATABASE)],
        problems: &[404],
        ..entry("GET", p::DATABASE, "describeDatabase", "One database")
    },
    Entry {
        body: (Shape::Schema("DatabaseSettings"), false),
        answers: &[
            Answer { headers: &["Location"], ..answer(201, "It was created", DATABASE) },
            answer(200, "It exists with the same settings; nothing was changed", DATABASE),
        ],
        problems: &[409, 413, 415, 422],
        ..entry("PUT", p::DATABASE, "createDatabase", "Creates a database; without a body, with the default settings")
    },
    Entry {
        params: &[param(
            "uuid",
            Kind::Text,
            "UUID of the database, so that nothing is dropped by a slip; without it the refusal tells it",
        )],
        answers: &[answer(204, "It was dropped", Shape::Empty)],
        problems: &[404, 409],
        ..entry("DELETE", p::DATABASE, "dropDatabase", "Drops a database")
    },
    Entry {
        body: (Shape::Schema("SettingsPatch"), true),
        answers: &[answer(200, "The database with its new settings", DATABASE)],
        problems: &[404, 409, 413, 415, 422],
        ..entry("PATCH", p::CONFIGURATION, "configureDatabase", "Changes settings; what is absent stays")
    },
    Entry {
        answers: &[answer(200, "Role, status, progress and backlog of every node", REPLICATION)],
        problems: &[404],
        ..entry("GET", p::REPLICATION, "describeReplication", "Replication of a database as this node sees it")
    },
    Entry {
        answers: &[Answer { headers: &["Location"], ..answer(202, "It is being removed", REPLICATION) }],
        problems: &[404, 409],
        ..entry(
            "DELETE",
            p::DATABASE_NODE,
            "removeNodeFromDatabase",
            "Takes a node out of the configuration of a database",
        )
    },
    Entry {
        answers: &[Answer {
            headers: &["Location"],
            ..answer(202, "The copy begins; its progress stands in the replication", REPLICATION)
        }],
        problems: &[404, 409],
        ..entry("POST", p::DEPLOY, "deployDatabase", "Deploys a database to a node by hand")
    },
    Entry {
        answers: &[answer(200, "The comparison under way and the last one that ended", COMPARISON)],
        problems: &[404],
        ..entry("GET", p::COMPARE, "describeComparison", "Comparison of this node's copy with the other nodes'")
    },
    Entry {
        answers: &[Answer {
            headers: &["Location"],
            ..answer(202, "It begins, or is under way already; its progress stands at the same path", COMPARISON)
        }],
        problems: &[404, 409],
        ..entry(
            "POST",
            p::COMPARE,
            "compareDatabase",
            "Compares this node's copy with the other nodes' by hashes of key ranges, and repairs what silently differs",
        )
    },
    Entry {
        params: &[
            param("since", Kind::Text, "Cursor of an entry: what comes behind it. Without it, from the beginning"),
            param(
                "follow",
                Kind::Flag,
                "Keeps the answer open; every 10 seconds without a change an empty line (or comment) is sent. Default: true for text/event-stream, else false",
            ),
            param("limit", Kind::Number(1, 1_000_000), "Entries at most. Default: 1000, or no limit when following"),
            param(
                "Accept",
                Kind::Choice(&["application/x-ndjson", "text/event-stream"]),
                "Lines of JSON, or server-sent events with the cursor as id",
            ),
            param("Last-Event-ID", Kind::Text, "Like since, as browsers send it when they come back"),
        ],
        answers: &[answer(
            200,
            "The newest state of each document that changed, oldest change first",
            Shape::LinesOrEvents("ChangeLine"),
        )],
        problems: &[404, 410],
        ..entry("GET", p::CHANGES, "streamChanges", "Change feed of this node")
    },
    Entry {
        answers: &[answer(200, "All collections, by name", Shape::Schema("CollectionList"))],
        problems: &[404],
        ..entry("GET", p::COLLECTIONS, "listCollections", "Collections of a database")
    },
    Entry {
        answers: &[answer(201, "It was created", COLLECTION), answer(200, "It exists", COLLECTION)],
        problems: &[404],
        ..entry(
            "PUT",
            p::COLLECTION,
            "createCollection",
            "Creates a collection; the first write of a document does, too",
        )
    },
    Entry {
        params: &[param(
            "documents",
            Kind::Flag,
            "Deletes the documents first; without it only an empty collection is removed",
        )],
        answers: &[answer(204, "It was removed", Shape::Empty)],
        problems: &[404, 409],
        ..entry("DELETE", p::COLLECTION, "deleteCollection", "Removes a collection")
    },
    Entry {
        params: &[
            param("prefix", Kind::Text, "Only keys that begin with this"),
            param("start", Kind::Text, "Only this key and those behind it"),
            param(
                "limit",
                Kind::Number(1, 1000),
                "Documents at most; a page of large documents may hold fewer. Default: 100",
            ),
            param("cursor", Kind::Text, "nextCursor of the page before"),
        ],
        answers: &[answer(
            200,
            "A page of documents in key order, from the local store",
            Shape::Schema("DocumentPage"),
        )],
        problems: &[404],
        ..entry("GET", p::DOCUMENTS, "listDocuments", "Documents of a collection in key order")
    },
    Entry {
        params: &[IDEMPOTENCY_KEY, SESSION],
        body: (Shape::Document, true),
        answers: &[located("It was created", WRITE_RESULT), tagged(200, "Not used for creates", WRITE_RESULT)],
        problems: &[404, 409, 413, 415, 422, 507],
        ..entry(
            "POST",
            p::DOCUMENTS,
            "createDocument",
            "Creates a document under its _key, or under a generated one (a time-ordered UUID; with an Idempotency-Key one that follows from it)",
        )
    },
    Entry {
        params: &[
            param(
                "consistency",
                Kind::Choice(&["local", "linearizable"]),
                "local: the local store answers; linearizable: confirmed by a majority. Default: as the database's readQuorum says",
            ),
            IF_MATCH,
            IF_NONE_MATCH,
            SESSION,
        ],
        answers: &[
            Answer {
                headers: &["ETag", "Coequal-Session", "Coequal-Consistency", "Coequal-Age"],
                ..answer(200, "The document; HEAD gives the same without it", Shape::Document)
            },
            tagged(304, "If-None-Match names this revision", Shape::Empty),
        ],
        problems: &[404, 412],
        ..entry("GET", p::DOCUMENT, "readDocument", "Reads a document")
    },
    Entry {
        params: DOCUMENT_WRITE,
        body: (Shape::Document, true),
        answers: &[located("It was created", WRITE_RESULT), tagged(200, "It was replaced", WRITE_RESULT)],
        problems: &[404, 412, 413, 415, 422, 507],
        ..entry("PUT", p::DOCUMENT, "putDocument", "Creates or replaces a document")
    },
    Entry {
        params: DOCUMENT_WRITE,
        body: (Shape::MergePatch, true),
        answers: &[tagged(200, "It was changed", WRITE_RESULT)],
        problems: &[404, 412, 413, 415, 422, 507],
        ..entry("PATCH", p::DOCUMENT, "patchDocument", "Changes a document by a JSON merge patch (RFC 7396)")
    },
    Entry {
        params: DOCUMENT_WRITE,
        answers: &[Answer { headers: &["Coequal-Session"], ..answer(204, "It was deleted", Shape::Empty) }],
        problems: &[404, 412, 507],
        ..entry("DELETE", p::DOCUMENT, "deleteDocument", "Deletes a document")
    },
    Entry {
        params: &[IDEMPOTENCY_KEY],
        body: (Shape::Lines(&["BatchOperation", "Document"]), true),
        answers: &[answer(
            200,
            "One result a line, in the order of the lines; each line is its own atomic unit. Read results while sending: those that wait are bounded",
            Shape::Lines(&["BatchResult", "BatchError"]),
        )],
        problems: &[404, 415],
        ..entry(
            "POST",
            p::BATCH,
            "writeBatch",
            "Many writes as NDJSON; line n of a batch with the Idempotency-Key K is the write K/n",
        )
    },
    Entry {
        answers: &[answer(
            200,
            "All documents in key order, from the local store; a connection that breaks off means that there was more",
            Shape::Lines(&["Document"]),
        )],
        problems: &[404],
        ..entry("GET", p::EXPORT, "exportCollection", "All documents of a collection")
    },
];
