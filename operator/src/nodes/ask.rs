//! Carrying out a step that asks a node for something.

use super::client::{ClientError, NodeClient};
use crate::controller::decisions::Step;
use coequal_types::NodeName;

/// The node that a step asks; `None` if the step asks nobody.
pub fn asked(step: &Step) -> Option<&NodeName> {
    match step {
        Step::Initialize(name) => Some(name),
        Step::CreateDatabase { via, .. }
        | Step::ChangeSettings { via, .. }
        | Step::Admit { via, .. }
        | Step::Remove { via, .. } => Some(via),
        Step::Start(_) | Step::Stop { .. } | Step::HoldRemoval { .. } | Step::WaitFor(_) | Step::Nothing => None,
    }
}

/// Asks for it. Steps that ask nobody are done at once.
pub async fn ask(client: &NodeClient, step: &Step) -> Result<(), ClientError> {
    match step {
        Step::Initialize(_) => client.initialize().await,
        Step::CreateDatabase { name, settings, .. } => client.create_database(name, settings).await,
        Step::ChangeSettings { name, patch, .. } => client.change_settings(name, patch).await,
        Step::Admit { peer_address, .. } => client.add_node(peer_address).await,
        Step::Remove { id, .. } => client.remove_node(*id).await,
        Step::Start(_) | Step::Stop { .. } | Step::HoldRemoval { .. } | Step::WaitFor(_) | Step::Nothing => Ok(()),
    }
}

/// What was done, in words.
pub fn done_words(step: &Step) -> String {
    match step {
        Step::Initialize(name) => format!("cluster initialised by {name}"),
        Step::CreateDatabase { name, .. } => format!("database {name} created"),
        Step::ChangeSettings { name, patch, .. } => {
            let changes = serde_json::to_string(patch).unwrap_or_default();
            format!("database {name} settings changed: {changes}")
        }
        Step::Admit { name, .. } => format!("{name} stays in the cluster after all"),
        Step::Remove { name, id, .. } => format!("{name} is being removed from the cluster (node id {id})"),
        Step::Start(name) => format!("{name} started"),
        Step::Stop { name, .. } => format!("{name} stops"),
        Step::HoldRemoval { name, ill } => format!("{name} stays until {ill} is ONLINE"),
        Step::WaitFor(what) => format!("waiting for {what}"),
        Step::Nothing => "all is as wished".to_owned(),
    }
}
