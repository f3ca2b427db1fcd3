//! `auth.policy` that keeps records: the action says what is done with the order that the target names. It allows with what came of it,
//! and denies with what went wrong.

use platform_sdk::{
    Problem,
    auth::{Decision, Policy, Request},
    client::db::{self, Condition, Content, Error, Field, Filter, Index, Kind, Query, Test, Value},
    export,
};

const SHOP: &str = "shop";
const ORDERS: &str = "orders";

struct Records;

export!(auth::Policy for Records, grants = ["db"]);

impl Policy for Records {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        match done(request.action, request.target) {
            Ok(said) => Decision::allow(said),
            Err(error) => Decision::deny(format!("{error:?}")),
        }
    }
}

fn done(action: &str, id: &str) -> Result<String, Error> {
    match action {
        "declare" => {
            let index = Index { field: "status".to_owned(), kind: Kind::Text, unique: false };
            db::declare(SHOP, ORDERS, &[index]).map(|()| "declared".to_owned())
        }
        "make" => {
            let status = Field { name: "status".to_owned(), value: Value::Text("open".to_owned()) };
            let content = Content { metadata: vec![status], data: id.as_bytes().to_vec() };
            let stamp = db::put(SHOP, ORDERS, id, content, Condition::Absent)?;
            Ok(stamp.map(|stamp| stamp.id).unwrap_or_default())
        }
        "read" => {
            let record = db::get(SHOP, ORDERS, id)?;
            Ok(record.map_or_else(|| "absent".to_owned(), |record| String::from_utf8_lossy(&record.data).into_owned()))
        }
        "look" => {
            let open = Filter { field: "status".to_owned(), test: Test::Equals(Value::Text("open".to_owned())) };
            let query = Query {
                filters: vec![open],
                order_by: String::new(),
                descending: false,
                offset: 0,
                limit: 10,
                after: None,
            };
            let found = db::find(SHOP, ORDERS, &query)?;
            let ids: Vec<_> = found.records.into_iter().map(|record| record.stamp.id).collect();
            Ok(format!("{} by {}", ids.join(" "), found.used.unwrap_or_default()))
        }
        "remove" => db::delete(SHOP, ORDERS, id, Condition::Present).map(|()| "removed".to_owned()),
        other => Err(Error::Invalid(format!("`{other}` is no action"))),
    }
}
