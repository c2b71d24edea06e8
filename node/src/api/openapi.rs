//! `/openapi.json`: OpenAPI 3.1, put together from the routes, the table of requests and the types of the
//! bodies.

use super::openapi_table::{Answer, ENTRIES, Entry, Kind, Param, Shape};
use super::problem::PROBLEM_JSON;
use super::shell::DEADLINE_MS_MAX;
use axum::response::Response;
use coequal_types::rest;
use http::StatusCode;
use std::sync::OnceLock;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItemBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{
    Content, HeaderBuilder, InfoBuilder, LicenseBuilder, PathsBuilder, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa::openapi::{OpenApi as Specification, PathItem};

/// The bodies.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(
    rest::NodeDescription,
    rest::ClusterDescription,
    rest::AddNode,
    rest::RecoverCluster,
    rest::ForcedRecovery,
    rest::RecoveredDatabase,
    rest::DatabaseList,
    rest::DatabaseDescription,
    rest::SettingsPatch,
    rest::ReplicationDescription,
    rest::ComparisonDescription,
    rest::CollectionList,
    rest::CollectionDescription,
    rest::DocumentPage,
    rest::WriteResult,
    rest::BatchOperation,
    rest::BatchResult,
    rest::BatchError,
    rest::ChangeLine,
    rest::Problem,
    coequal_types::DatabaseSettings,
)))]
struct Bodies;

const DESCRIPTION: &str = "A multi-master replicated document database. Every request works on every node.\n\n\
Errors are problem details (RFC 9457) with a stable `type`, `urn:coequal:error:<name>`. A 503 tells in `outcome` whether a write may have been \
applied: `not-applied`, or `unknown` with the `requestId` to ask again with, as `Idempotency-Key`. Every request has a deadline \
(10 s unless `Coequal-Deadline-Ms` says otherwise). Unknown query parameters are refused. Wherever GET works, HEAD and OPTIONS work.";

/// `GET /openapi.json`
pub async fn show() -> Response {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    let text = TEXT.get_or_init(|| serde_json::to_vec(&document()).unwrap_or_default());
    super::json_bytes(StatusCode::OK, text.clone())
}

/// The whole document.
pub fn document() -> Specification {
    let mut document = Bodies::openapi();
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    document.info = InfoBuilder::new()
        .title("Coequal node")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .build();
    if let Some(components) = &mut document.components {
        components.schemas.insert("Document".to_owned(), RefOr::T(document_schema()));
    }
    let mut paths = PathsBuilder::new();
    for route in super::paths::ROUTES {
        let mut item = PathItemBuilder::new();
        for entry in ENTRIES.iter().filter(|entry| entry.path == route.path) {
            if let Some(method) = http_method(entry.method) {
                item = item.operation(method, operation(entry));
            }
        }
        let item: PathItem = item.build();
        paths = paths.path(route.path, item);
    }
    document.paths = paths.build();
    document
}

fn document_schema() -> Schema {
    let system = |text: &str, kind| ObjectBuilder::new().schema_type(kind).description(Some(text)).build();
    let object = ObjectBuilder::new()
        .description(Some("A document: any JSON object whose own members do not begin with _ at the top level"))
        .property("_key", system("Key; on input it must agree with the path", Type::String))
        .property("_version", system("Version; ignored on input", Type::Integer))
        .property("_stamp", system("Stamp; ignored on input", Type::String))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)));
    Schema::Object(object.build())
}

fn http_method(method: &str) -> Option<HttpMethod> {
    Some(match method {
        "GET" => HttpMethod::Get,
        "PUT" => HttpMethod::Put,
        "POST" => HttpMethod::Post,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => return None,
    })
}

fn operation(entry: &Entry) -> Operation {
    let mut built = OperationBuilder::new()
        .tag(tag(entry.path))
        .operation_id(Some(entry.id))
        .summary(Some(entry.summary))
        .request_body(request_body(entry.body));
    for segment in entry.path.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            built = built.parameter(path_parameter(name));
        }
    }
    let deadline = usize::try_from(DEADLINE_MS_MAX).unwrap_or(usize::MAX);
    let everywhere = [
        Param {
            name: "Coequal-Deadline-Ms",
            kind: Kind::Number(1, deadline),
            text: "Milliseconds until this request must be answered; of a stream, each of its steps (before, lines of a batch may \
                   wait for their turn behind those of others, for a minute at most). Default: 10000",
        },
        Param { name: "X-Request-Id", kind: Kind::Text, text: "Comes back in the answer; made up when absent" },
    ];
    for param in entry.params.iter().chain(&everywhere) {
        built = built.parameter(parameter(param));
    }
    for answer in entry.answers {
        built = built.response(answer.status.to_string(), response(answer));
    }
    for status in [400, 429, 503].iter().chain(entry.problems) {
        if !entry.answers.iter().any(|answer| answer.status == *status) {
            built = built.response(status.to_string(), problem(*status));
        }
    }
    built.build()
}

fn tag(path: &str) -> &'static str {
    match path {
        _ if path.contains("/collections") || path.ends_with("/changes") => "documents",
        _ if path.contains("/databases") => "databases",
        _ if path.starts_with("/v1/") => "cluster",
        _ => "observation",
    }
}

fn path_parameter(name: &str) -> Parameter {
    let text = match name {
        "db" => "Name of the database",
        "collection" => "Name of the collection",
        "key" => "Key of the document, percent-encoded as one segment",
        _ => "Id or name of the node",
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(text))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .build()
}

fn parameter(param: &Param) -> Parameter {
    let header = param.name.starts_with(|first: char| first.is_ascii_uppercase());
    let schema = match param.kind {
        Kind::Text => ObjectBuilder::new().schema_type(Type::String),
        Kind::Flag => ObjectBuilder::new().schema_type(Type::Boolean),
        Kind::Number(min, max) => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max)),
        Kind::Choice(words) => ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied())),
    };
    ParameterBuilder::new()
        .name(param.name)
        .parameter_in(if header { ParameterIn::Header } else { ParameterIn::Query })
        .required(Required::False)
        .description(Some(param.text))
        .schema(Some(schema.build()))
        .build()
}

/// Media types and schema of a body.
fn contents(shape: Shape) -> Vec<(&'static str, Content)> {
    let text = || Content::new(Some(ObjectBuilder::new().schema_type(Type::String).build()));
    let named = |name: &str| Content::new(Some(Ref::from_schema_name(name)));
    match shape {
        Shape::Empty => Vec::new(),
        Shape::Schema(name) => vec![("application/json", named(name))],
        Shape::Document => vec![("application/json", named("Document"))],
        Shape::MergePatch => {
            vec![("application/merge-patch+json", named("Document")), ("application/json", named("Document"))]
        }
        Shape::Lines(names) => {
            let one_of = names.iter().fold(OneOfBuilder::new(), |built, name| built.item(Ref::from_schema_name(*name)));
            vec![("application/x-ndjson", Content::new(Some(Schema::OneOf(one_of.build()))))]
        }
        Shape::LinesOrEvents(name) => vec![("application/x-ndjson", named(name)), ("text/event-stream", text())],
        Shape::Text(media) => vec![(media, text())],
    }
}

fn request_body((shape, required): (Shape, bool)) -> Option<RequestBody> {
    let contents = contents(shape);
    if contents.is_empty() {
        return None;
    }
    let mut built = RequestBodyBuilder::new().required(Some(if required { Required::True } else { Required::False }));
    for (media, content) in contents {
        built = built.content(media, content);
    }
    Some(built.build())
}

fn response(answer: &Answer) -> utoipa::openapi::Response {
    let mut built = ResponseBuilder::new().description(answer.text);
    for (media, content) in contents(answer.shape) {
        built = built.content(media, content);
    }
    for name in answer.headers.iter().chain(&["Coequal-Node", "X-Request-Id"]) {
        built = built.header(
            *name,
            HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String).build())).build(),
        );
    }
    built.build()
}

fn problem(status: u16) -> utoipa::openapi::Response {
    let text = match status {
        400 => "The path, the query, a header or the body cannot be read",
        404 => "The database, collection, document or node does not exist; type tells which",
        409 => "The present state does not allow it",
        410 => "The cursor is void: start again without since",
        412 => "The precondition does not hold; ETag and version tell the current revision, if there is one",
        413 => "Larger than its limit",
        415 => "The body's media type, charset or encoding is not understood",
        422 => "Readable, and not acceptable: detail names the member at fault",
        429 => "Too much at once; Retry-After tells when to try again",
        503 => {
            "No quorum, synchronizing, shutting down or the like; outcome tells whether a write may have been applied"
        }
        507 => "The disk of this node is full",
        _ => "Refused",
    };
    let mut built = ResponseBuilder::new()
        .description(text)
        .content(PROBLEM_JSON, Content::new(Some(Ref::from_schema_name("Problem"))));
    if matches!(status, 429 | 503 | 507) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
        built = built.header("Retry-After", HeaderBuilder::new().schema(Some(seconds)).build());
    }
    built.build()
}

#[cfg(test)]
#[path = "openapi_test.rs"]
mod tests;
