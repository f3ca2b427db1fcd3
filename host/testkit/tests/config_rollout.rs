//! Staged rollouts of configurations: some instances first, then all, or none.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::time::Duration;

use futures::StreamExt as _;
use platform_capability::SlotKind;
use platform_dataplane::{Action, CallError, ConfigError, Edit, Edited, Event, Read};
use platform_testkit::{Fixture, alone, call, component, plugin};
use serde_json::{Value, json};

async fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let store = component("plugins", "config-storage");
    fixture.bind("config.store", alone(plugin(SlotKind::ConfigStore, "config-storage", &store, &["storage"]))).await;
    edit(&fixture, &Edit { value: "{\"a\":1,\"b\":1}", ..Edit::new("shop", Action::Set) }).await.unwrap();
    fixture
}

async fn edit(fixture: &Fixture, edit: &Edit<'_>) -> Result<Edited, ConfigError> {
    fixture.plane.configurations().edit(&call(), edit).await.map_err(|error| match error {
        CallError::Capability(error) => error,
        other => ConfigError::Other(other.to_string()),
    })
}

async fn stage(fixture: &Fixture, value: &str, percent: u32) -> Result<Edited, ConfigError> {
    let path = if value.is_empty() { "" } else { "/a" };
    edit(fixture, &Edit { path, value, percent, ..Edit::new("shop", Action::Stage) }).await
}

async fn served(fixture: &Fixture, instance: &str) -> (Value, bool) {
    let read = fixture.plane.configurations().get(&call(), &Read { path: "/a", instance, ..Read::new("shop") }).await;
    let read = read.unwrap();
    (read.value, read.staged)
}

/// How many of a hundred instances are served the candidate, which is 2.
async fn share(fixture: &Fixture) -> usize {
    let mut chosen = 0;
    for node in 0..100 {
        let (value, staged) = served(fixture, &format!("node-{node}")).await;
        assert_eq!(value, json!(if staged { 2 } else { 1 }));
        chosen += usize::from(staged);
    }
    chosen
}

#[tokio::test]
async fn a_candidate_goes_to_some_then_to_all() {
    let fixture = fixture().await;
    let staged = stage(&fixture, "2", 20).await.unwrap().version.unwrap();
    assert_eq!((staged.number, staged.staged, staged.change.touched.len()), (2, Some(20), 0));
    let few = share(&fixture).await;
    assert!((5..40).contains(&few), "{few}");
    assert_eq!(served(&fixture, "").await, (json!(1), false), "who names no instance is served the document");
    stage(&fixture, "", 60).await.unwrap();
    let many = share(&fixture).await;
    assert!(many > few && many < 85, "{many}");
    for other in [
        Edit { path: "/b", value: "2", ..Edit::new("shop", Action::Set) },
        Edit { path: "/a", value: "3", percent: 5, ..Edit::new("shop", Action::Stage) },
        Edit { restores: 1, ..Edit::new("shop", Action::Rollback) },
        Edit::new("shop", Action::Delete),
    ] {
        assert_eq!(edit(&fixture, &other).await, Err(ConfigError::Staged("shop".into())), "{other:?}");
    }
    let promoted = edit(&fixture, &Edit::new("shop", Action::Promote)).await.unwrap().version.unwrap();
    assert_eq!((promoted.staged, promoted.change.touched), (None, vec!["/a".to_owned()]));
    assert_eq!(served(&fixture, "").await, (json!(2), false));
    edit(&fixture, &Edit { path: "/b", value: "2", ..Edit::new("shop", Action::Set) }).await.unwrap();
}

#[tokio::test]
async fn a_candidate_that_is_given_up_is_served_to_nobody() {
    let fixture = fixture().await;
    let nothing = Edit { value: "1", percent: 5, ..Edit::new("other", Action::Stage) };
    assert!(matches!(edit(&fixture, &nothing).await, Err(ConfigError::NotFound(_))));
    for early in [Edit::new("shop", Action::Promote), Edit::new("shop", Action::Abort)] {
        assert_eq!(edit(&fixture, &early).await, Err(ConfigError::NotStaged("shop".into())));
    }
    assert_eq!(stage(&fixture, "", 5).await, Err(ConfigError::NotStaged("shop".into())));
    assert!(matches!(stage(&fixture, "2", 101).await, Err(ConfigError::Invalid(_))));
    let schema = Edit { value: "{\"properties\":{\"a\":{\"type\":\"integer\"}}}", ..Edit::new("shop", Action::Schema) };
    edit(&fixture, &schema).await.unwrap();
    assert!(matches!(stage(&fixture, "\"x\"", 5).await, Err(ConfigError::Mismatch(_))), "it is judged when it is made");
    stage(&fixture, "2", 100).await.unwrap();
    assert_eq!(share(&fixture).await, 100);
    edit(&fixture, &Edit::new("shop", Action::Abort)).await.unwrap();
    assert_eq!(share(&fixture).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_hears_of_what_it_is_served() {
    let fixture = fixture().await;
    let configurations = fixture.plane.configurations();
    let watch = |instance: &str| Box::pin(configurations.watch(&call(), "shop", Some("/a"), instance, 1).unwrap());
    let (mut first, mut nobody) = (watch("node-1"), watch(""));
    stage(&fixture, "2", 100).await.unwrap();
    edit(&fixture, &Edit::new("shop", Action::Abort)).await.unwrap();
    stage(&fixture, "3", 100).await.unwrap();
    edit(&fixture, &Edit::new("shop", Action::Promote)).await.unwrap();
    let mut heard = [Vec::new(), Vec::new()];
    for (watch, heard) in [&mut first, &mut nobody].into_iter().zip(&mut heard) {
        let mut reached = 0;
        while reached < 5 {
            let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("nothing came");
            match event.unwrap().unwrap() {
                Event::Changes(seen) => {
                    heard.extend(seen.iter().map(|seen| (seen.version.number, seen.value.clone().unwrap())));
                    reached = seen.last().unwrap().version.revision;
                    // The promotion changes nothing for an instance that was served the candidate, so it is not heard.
                    reached += u64::from(reached == 4);
                }
                Event::Progress(revision) => reached = revision,
            }
        }
    }
    let [first, nobody] = heard;
    assert_eq!(first, [(2, json!(2)), (3, json!(1)), (4, json!(3))]);
    assert_eq!(nobody, [(5, json!(3))]);
}
