//! Questions to nodes that are no peers yet.

use super::*;

fn join() -> Message {
    Message::JoinRequest { entry: "{}".into(), cluster: None }
}

type Question = (Box<Hello>, Message, oneshot::Sender<Message>);

async fn asked(node: &mut Node) -> Question {
    node.until("a question", |event| match event {
        NetworkEvent::Asked { from, message, answer } => Some((from, message, answer)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_question_is_answered_on_the_askers_connection() {
    let (a, mut b) = (node(1, 4).await, node(2, 1).await);
    let address = b.address();
    let answering = async {
        let (from, message, answer) = asked(&mut b).await;
        assert_eq!((from.node, from.incarnation, message), (NodeId(1), 4, join()));
        answer.send(ping(9)).unwrap();
    };
    let (answer, ()) = tokio::join!(a.network.ask_once(&address, join(), DEADLINE), answering);
    let (hello, message) = answer.unwrap();
    assert_eq!((hello.node, hello.name.as_str(), message), (NodeId(2), "node-2", ping(9)));
}

#[tokio::test]
async fn a_question_that_is_dropped_ends_with_an_error() {
    let (a, mut b) = (node(1, 1).await, node(2, 1).await);
    let address = b.address();
    let dropping = async { drop(asked(&mut b).await) };
    let (answer, ()) = tokio::join!(a.network.ask_once(&address, join(), DEADLINE), dropping);
    assert!(matches!(answer, Err(NetworkError::Connection { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_question_without_an_answer_ends_in_time() {
    let (a, mut b) = (node(1, 1).await, node(2, 1).await);
    let (address, short) = (b.address(), Duration::from_millis(200));
    let (answer, _unanswered) = tokio::join!(a.network.ask_once(&address, join(), short), asked(&mut b));
    assert!(matches!(answer, Err(NetworkError::Timeout { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_node_that_asks_itself_is_told_so() {
    let a = node(1, 1).await;
    let error = a.network.ask_once(&a.address(), join(), DEADLINE).await.unwrap_err();
    let NetworkError::Refused { refusal, .. } = &error else { panic!("{error}") };
    assert_eq!(refusal.kind, RefusalKind::SameNode);
    assert!(error.to_string().contains("met itself"), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_that_names_it() {
    let a = node(1, 1).await;
    let free = node(2, 1).await;
    let address = free.address();
    free.network.shutdown().await;
    let error = a.network.ask_once(&address, join(), DEADLINE).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    let error = a.network.ask_once("no port here", join(), DEADLINE).await.unwrap_err();
    assert!(error.to_string().contains("no port here"), "{error}");
}
