//! What the manifest says of the nodes' containers.

use super::fault::{Fault, cut};
use super::fields::Fields;
use super::quantity;
use crate::controller::quantity::is_less;
use crate::crd::{ResourceAmounts, ResourcesSpec, bounds};

/// The image; `None` keeps what the operator chose.
pub(super) fn image(spec: &Fields<'_>, faults: &mut Vec<Fault>) -> Option<String> {
    let image = spec.text("image", faults)?;
    let longest = bounds::IMAGE_BYTES_MAX;
    let is_good = image.len() <= longest
        && image.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && image.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/:@".contains(&b));
    if !is_good {
        let message = format!(
            "{} is no name of an image; write it as in registry.example/coequal-node:1.2, with at most {longest} characters",
            cut(image)
        );
        faults.push(Fault::new(spec.path("image"), message));
    }
    Some(image.to_owned())
}

/// Requests and limits; the operator's own where nothing is said.
pub(super) fn resources(spec: &Fields<'_>, faults: &mut Vec<Fault>) -> ResourcesSpec {
    let Some(fields) = spec.mapping("resources", faults) else { return ResourcesSpec::default() };
    fields.refuse_unknown(&["requests", "limits"], faults);
    let (requests, limits) = (amounts(&fields, "requests", faults), amounts(&fields, "limits", faults));
    if let (Some(requests), Some(limits)) = (&requests, &limits) {
        for (field, request, limit) in
            [("cpu", &requests.cpu, &limits.cpu), ("memory", &requests.memory, &limits.memory)]
        {
            if let (Some(request), Some(limit)) = (request, limit)
                && is_less(limit, request)
            {
                let (request, limit) = (cut(request), cut(limit));
                let message = format!(
                    "requests.{field} {request} is more than limits.{field} {limit}; \
                     write a limit that is at least the request"
                );
                faults.push(Fault::new(spec.path("resources"), message));
            }
        }
    }
    ResourcesSpec { requests, limits }
}

fn amounts(resources: &Fields<'_>, field: &str, faults: &mut Vec<Fault>) -> Option<ResourceAmounts> {
    let fields = resources.mapping(field, faults)?;
    fields.refuse_unknown(&["cpu", "memory"], faults);
    let mut amount = |field: &str, wrong: fn(&str) -> bool, example: &str| {
        let text = fields.text(field, faults)?.to_owned();
        if wrong(&text) {
            faults.push(Fault::new(fields.path(field), format!("{} is no amount; write {example}", cut(&text))));
        }
        Some(text)
    };
    let cpu = amount("cpu", is_no_processor, "500m or \"2\"");
    let memory = amount("memory", |text| quantity::fault(text).is_some(), "512Mi or 2Gi");
    Some(ResourceAmounts { cpu, memory })
}

fn is_no_processor(text: &str) -> bool {
    let number = text.strip_suffix('m').unwrap_or(text);
    number.bytes().any(|b| b.is_ascii_alphabetic()) || quantity::fault(number).is_some()
}
