//! The export macro with each trait and every combination of options, and the state that it keeps, called as the
//! component's exports call it.

use platform_sdk::{
    Handover, Problem, auth,
    bindings::stateful::exports::platform::plugin::{handover, lifecycle},
    discovery,
    export::Adapter,
    kv, router,
};

struct Allow(String);

platform_sdk::export!(auth::Policy for Allow, settings_schema = r#"{"type": "string"}"#);

impl auth::Policy for Allow {
    type Settings = String;

    fn configure(reason: String) -> Result<Self, Problem> {
        if reason.is_empty() { Err(Problem::new("a reason is needed").at("")) } else { Ok(Self(reason)) }
    }

    fn self_test(&self) -> Result<(), Problem> {
        if self.0 == "broken" { Err("it is broken".into()) } else { Ok(()) }
    }

    fn authorize(&self, _: &auth::Request<'_>) -> auth::Decision {
        auth::Decision::allow(self.0.as_str())
    }
}

struct First;

platform_sdk::export!(router::Policy for First, mode = "reused", grants = []);

impl router::Policy for First {
    type Settings = ();
    type Table = usize;

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn table(&self, _: &str, nodes: Vec<router::Node>) -> usize {
        nodes.len()
    }

    fn pick(&self, nodes: &mut usize, _: router::Pick) -> Option<usize> {
        nodes.checked_sub(1)
    }

    fn weights(&self, nodes: &usize) -> Vec<u32> {
        vec![1; *nodes]
    }
}

struct Counter(u8);

platform_sdk::export!(kv::Store + Handover for Counter, mode = "single", grants = ["storage", "kv"],);

impl kv::Store for Counter {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self(0))
    }

    fn get(&mut self, _: &str) -> kv::Result<Option<kv::Entry>> {
        Ok(None)
    }

    fn get_many(&mut self, keys: &[String]) -> kv::Result<Vec<Option<kv::Entry>>> {
        Ok(keys.iter().map(|_| None).collect())
    }

    fn put(&mut self, _: &str, _: Vec<u8>, _: kv::Condition, _: kv::Expiry) -> kv::Result<u64> {
        self.0 += 1;
        Ok(self.0.into())
    }

    fn delete(&mut self, _: &str, _: kv::Condition) -> kv::Result<Option<u64>> {
        Ok(None)
    }

    fn commit(&mut self, _: Vec<kv::Write>) -> kv::Result<u64> {
        Ok(0)
    }

    fn increment(&mut self, _: &str, by: i64) -> kv::Result<i64> {
        Ok(by)
    }

    fn used(&mut self) -> kv::Result<kv::Usage> {
        Ok(kv::Usage { keys: 0, bytes: 0, keys_quota: None, bytes_quota: None })
    }

    fn scan(&mut self, _: &str, _: Option<&str>, _: u32) -> kv::Result<Vec<(String, kv::Entry)>> {
        Ok(Vec::new())
    }

    fn changes(&mut self, _: &str, _: u64, _: u32, _: u32) -> kv::Result<Vec<kv::Change>> {
        Ok(Vec::new())
    }

    fn revision(&mut self) -> kv::Result<u64> {
        Ok(self.0.into())
    }
}

impl Handover for Counter {
    fn save(&mut self) -> Result<Vec<u8>, Problem> {
        Ok(vec![self.0])
    }

    fn load(&mut self, state: &[u8]) -> Result<(), Problem> {
        self.0 = *state.first().ok_or("the state is empty")?;
        Ok(())
    }
}

struct Nowhere;

platform_sdk::export!(discovery::Registry for Nowhere);

impl discovery::Registry for Nowhere {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn register(&mut self, _: discovery::Registration, _: u64) -> discovery::Result<u64> {
        Ok(1)
    }

    fn heartbeat(&mut self, service: &str, _: &str, _: u64) -> discovery::Result<()> {
        Err(discovery::Error::NotFound(service.to_owned()))
    }

    fn deregister(&mut self, _: &str, _: &str) -> discovery::Result<()> {
        Ok(())
    }

    fn get(&mut self, _: &str, _: Option<&str>, _: u32) -> discovery::Result<Vec<discovery::Registration>> {
        Ok(Vec::new())
    }

    fn list(&mut self, _: Option<&str>, _: u32) -> discovery::Result<Vec<discovery::Summary>> {
        Ok(Vec::new())
    }

    fn changes(&mut self, _: &str, _: u64, _: u32, _: u32) -> discovery::Result<Vec<discovery::Change>> {
        Ok(Vec::new())
    }

    fn revision(&mut self) -> discovery::Result<u64> {
        Ok(0)
    }
}

fn configure<P>(settings: &str) -> Result<(), (String, Option<String>)>
where
    Adapter<P>: lifecycle::Guest,
{
    <Adapter<P> as lifecycle::Guest>::configure(settings.to_owned()).map_err(|problem| (problem.message, problem.at))
}

#[test]
fn a_plugin_is_configured_once() {
    assert!(<Adapter<Allow> as lifecycle::Guest>::self_test().is_err(), "not before it is configured");
    assert_eq!(configure::<Allow>("\"\""), Err(("a reason is needed".into(), Some(String::new()))));
    assert_eq!(configure::<Allow>("\"ok\""), Ok(()), "a refusal leaves nothing behind");
    assert_eq!(configure::<Allow>("\"other\""), Err(("`configure` was called twice".into(), None)));
    assert!(<Adapter<Allow> as lifecycle::Guest>::self_test().is_ok());
}

#[test]
fn a_failed_self_test_says_why() {
    configure::<Allow>("\"broken\"").unwrap();
    assert_eq!(<Adapter<Allow> as lifecycle::Guest>::self_test().unwrap_err().message, "it is broken");
}

#[test]
fn router_tables_come_and_go() {
    use platform_sdk::bindings::router::exports::platform::router::policy::Guest;

    type Exported = Adapter<First>;
    assert_eq!(Exported::pick(1, 0, 0), None);
    configure::<First>("{}").unwrap();
    let node = router::Node {
        id: "n".into(),
        address: String::new(),
        zone: String::new(),
        version: String::new(),
        weight: 1,
        labels: Vec::new(),
    };
    Exported::set_nodes(1, "s".into(), vec![node.clone(), node.clone()]);
    Exported::set_nodes(2, "t".into(), Vec::new());
    assert_eq!((Exported::pick(1, 0, 0), Exported::pick(2, 0, 0), Exported::pick(3, 0, 0)), (Some(1), None, None));
    assert_eq!(Exported::weights(1), [1, 1]);
    Exported::set_nodes(1, "s".into(), vec![node]);
    assert_eq!(Exported::pick(1, 0, 0), Some(0));
    Exported::drop_nodes(1);
    assert_eq!(Exported::pick(1, 0, 0), None);
}

#[test]
fn state_is_handed_over() {
    use platform_sdk::bindings::kv::exports::platform::kv::store::Guest;

    type Exported = Adapter<Counter>;
    let put = || Exported::put("a".into(), Vec::new(), kv::Condition::Always, kv::Expiry::Never);
    assert!(matches!(put(), Err(kv::Error::Unavailable(_))), "not before it is configured");
    configure::<Counter>("{}").unwrap();
    <Exported as handover::Guest>::load(vec![41]).unwrap();
    assert_eq!(put(), Ok(42));
    assert_eq!(<Exported as handover::Guest>::save().unwrap(), [42]);
    assert_eq!(<Exported as handover::Guest>::load(Vec::new()).unwrap_err().message, "the state is empty");
}

#[test]
fn errors_of_a_registry_pass_through() {
    use platform_sdk::bindings::discovery::exports::platform::discovery::registry::Guest;

    configure::<Nowhere>("{}").unwrap();
    let refused = <Adapter<Nowhere> as Guest>::heartbeat("s".into(), "n".into(), 1000);
    assert_eq!(refused, Err(discovery::Error::NotFound("s".into())));
}
