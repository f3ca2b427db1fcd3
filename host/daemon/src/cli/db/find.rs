//! `platform db find`: filters, order and pages.
//!
//! Owns how filters are written; what they mean is the daemon's. Invariant: a text that is no filter is refused, not taken for
//! one that finds nothing.

use clap::Args;
use platform_proto::db::v1::{Filter, FindRequest, FindResponse, filter::Test};
use prost_types::ListValue;

use super::{given::typed, records};
use crate::cli::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    pages,
};

/// How tests are written; what begins like another comes after it.
const SIGNS: [&str; 6] = ["<=", ">=", "^=", "=", "<", ">"];

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// The database.
    database: String,
    /// The table.
    table: String,
    /// What must hold, such as `status=open` or `total:number>=100`.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// A field that must be one of several, such as `status=open,paid`.
    #[arg(long, value_name = "FIELD[:KIND]=A,B...")]
    any: Vec<String>,
    /// The indexed field that records are ordered by, or `id`.
    #[arg(long, value_name = "FIELD")]
    order_by: Option<String>,
    /// The other way round.
    #[arg(long)]
    descending: bool,
    /// How many matches are passed over.
    #[arg(long, default_value_t = 0)]
    offset: u32,
    /// At most this many records; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, arguments: Find) -> Result<Exit, Failure> {
    let filters = arguments.filters.iter().map(|text| filter(text));
    let filters: Vec<Filter> = filters.chain(arguments.any.iter().map(|text| any(text))).collect::<Result<_, _>>()?;
    let client = context.connect().await?;
    let (mut scanned, mut index) = (0, String::new());
    let (found, next_page_token) = pages::read(arguments.limit, async |limit, page_token| {
        let message = FindRequest {
            database: arguments.database.clone(),
            table: arguments.table.clone(),
            filters: filters.clone(),
            order_by: arguments.order_by.clone().unwrap_or_default(),
            descending: arguments.descending,
            offset: arguments.offset,
            limit,
            page_token,
            ..FindRequest::default()
        };
        let page = client.call(client.db().find(client.request(TIMEOUT, message))).await?;
        scanned += page.scanned;
        index = page.index;
        Ok((page.records, page.next_page_token))
    })
    .await?;
    let output = context.output;
    if found.is_empty() {
        output.note("no records");
    }
    let answer = FindResponse { records: found, next_page_token, scanned, index };
    output.answer("platform.db.v1.FindResponse", &answer, || records(output, &answer.records))?;
    if answer.index.is_empty() && !filters.is_empty() {
        output.note(&format!("{scanned} records were looked at; an index on a field of the filters would help"));
    }
    if !answer.next_page_token.is_empty() {
        output.note("there are more; raise `--limit`");
    }
    Ok(Exit::Done)
}

fn filter(text: &str) -> Result<Filter, Failure> {
    let at = text.find(['<', '>', '^', '=']);
    let split = at.and_then(|at| {
        let (field, rest) = text.split_at_checked(at)?;
        SIGNS.iter().find_map(|sign| Some((field, *sign, rest.strip_prefix(sign)?)))
    });
    let Some((field, sign, value)) = split else {
        return Err(Failure::usage(format!(
            "`{text}` is no filter; write one such as `status=open` or `total:number>=100`"
        )));
    };
    let (field, value) = typed(field, value)?;
    let test = match sign {
        "=" => Test::Equals(value),
        "<" => Test::Less(value),
        "<=" => Test::AtMost(value),
        ">" => Test::Greater(value),
        ">=" => Test::AtLeast(value),
        _ => match value.kind {
            Some(prost_types::value::Kind::StringValue(text)) => Test::StartsWith(text),
            _ => return Err(Failure::usage(format!("`{text}` can't hold: only text starts with something"))),
        },
    };
    Ok(Filter { field, test: Some(test) })
}

fn any(text: &str) -> Result<Filter, Failure> {
    let Some((field, list)) = text.split_once('=') else {
        return Err(Failure::usage(format!("`{text}` is no list; write one such as `status=open,paid`")));
    };
    let mut name = String::new();
    let mut values = Vec::new();
    for value in list.split(',') {
        let (field, value) = typed(field, value)?;
        name = field;
        values.push(value);
    }
    Ok(Filter { field: name, test: Some(Test::AnyOf(ListValue { values })) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let test = |text: &str| filter(text).map(|filter| (filter.field, filter.test.unwrap()));
        assert!(matches!(test("a=b=c").unwrap(), (field, Test::Equals(_)) if field == "a"));
        assert!(matches!(test("a:number<=1").unwrap(), (field, Test::AtMost(_)) if field == "a"));
        assert!(matches!(test("a<1").unwrap().1, Test::Less(_)));
        assert!(matches!(test("a>=1").unwrap().1, Test::AtLeast(_)));
        assert!(matches!(test("a^=x").unwrap().1, Test::StartsWith(text) if text == "x"));
        for bad in ["", "a", "a^b", "a:number=x", "a:number^=1"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        assert!(matches!(any("a:number=1,2").unwrap().test, Some(Test::AnyOf(list)) if list.values.len() == 2));
    }
}
