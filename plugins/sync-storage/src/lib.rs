//! `sync.lock` over the platform's durable tables: a line of places for each name, and leases that storage lets expire.
//!
//! Its invariant: whatever is done to a line is one commit against the line as it was read, and against the leases that
//! the decision stands on; so no two hold what only one may.

use platform_sdk::{
    Problem, context, export,
    storage::{self, Change, Check, Condition, Delete, Put, Write},
    sync::{
        Error, Lease, Lock, Locks, Place, Result, Want, caller, check_holder, check_lease, check_limit, check_name,
        check_ttl, check_value, check_want,
    },
};

mod key;
mod line;
mod record;
mod search;
mod store;

use line::Line;
use store::{Step, TABLE};

/// Most places in one line.
const PLACES_MAX: usize = 1000;
/// Leases made between two looks for places that their leases left behind.
const SWEEP_EVERY: u32 = 16;
/// Places that are looked at then.
const SWEEP: u32 = 64;

/// It keeps nothing but how far it has looked for what was left behind.
#[derive(Default)]
struct Durable {
    made: u32,
    swept: Option<String>,
}

export!(sync::Locks for Durable, mode = "reused", grants = ["storage"]);

impl Locks for Durable {
    type Settings = ();

    fn configure((): ()) -> std::result::Result<Self, Problem> {
        Ok(Self::default())
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        TABLE.revision().map(drop).map_err(|error| Problem::new(format!("storage does not answer: {error}")))
    }

    fn grant(&mut self, lease: &str, ttl_ms: u64) -> Result<Lease> {
        check_lease(lease)?;
        check_ttl(ttl_ms)?;
        let record = record::Lease { holder: caller()?, ttl_ms, own: false }.encode();
        match TABLE.put(&key::lease(lease), &record, Condition::Absent, Some(ttl_ms)) {
            Ok(_) => {}
            Err(storage::Error::Conflict(_)) => return Err(taken(lease)),
            Err(error) => return Err(error.into()),
        }
        self.sweep();
        found(lease)
    }

    fn keep_alive(&mut self, lease: &str) -> Result<Lease> {
        check_lease(lease)?;
        let (record, _) = store::lease(lease)?.ok_or_else(|| ended(lease))?;
        check_holder(&record.holder)?;
        match TABLE.touch(&key::lease(lease), Some(record.ttl_ms)) {
            Ok(_) => found(lease),
            Err(storage::Error::Conflict(_)) => Err(ended(lease)),
            Err(error) => Err(error.into()),
        }
    }

    fn revoke(&mut self, lease: &str) -> Result<()> {
        check_lease(lease)?;
        if let Some((record, _)) = store::lease(lease)? {
            check_holder(&record.holder)?;
            TABLE.delete(&key::lease(lease), Condition::Always)?;
        }
        store::settle_places_of(lease)
    }

    fn acquire(
        &mut self, name: &str, want: Want, lease: &str, ttl_ms: Option<u64>, queue: bool,
    ) -> Result<(Place, Lease)> {
        check_name(name)?;
        check_want(&want)?;
        check_lease(lease)?;
        let holder = caller()?;
        match ttl_ms {
            Some(ttl_ms) => check_ttl(ttl_ms)?,
            None => check_shared(lease, &holder)?,
        }
        let place = join(name, &want, lease, ttl_ms, &holder, queue)?;
        if ttl_ms.is_some() {
            self.sweep();
        }
        Ok((place, found(lease)?))
    }

    fn release(&mut self, name: &str, token: u64) -> Result<()> {
        change(name, token, |step, place| {
            step.remove(token);
            step.settle(None)?;
            let own = store::lease(&place.lease)?.is_some_and(|(lease, _)| lease.own);
            Ok(own.then(|| key::lease(&place.lease)))
        })
        .map(drop)
    }

    fn proclaim(&mut self, name: &str, token: u64, value: Option<String>) -> Result<u64> {
        check_value(value.as_deref())?;
        change(name, token, |step, _| {
            for place in step.line.places.iter_mut().filter(|place| place.token == token) {
                place.value.clone_from(&value);
            }
            Ok(None)
        })
    }

    fn get(&mut self, name: &str) -> Result<Option<Lock>> {
        check_name(name)?;
        let (line, revision) = store::settled(name, None)?;
        Ok((!line.places.is_empty()).then(|| store::lock(name, &line, revision)))
    }

    fn find(&mut self, name: &str, token: u64) -> Result<Option<Place>> {
        check_name(name)?;
        Ok(store::settled(name, None)?.0.find(token).cloned())
    }

    fn search(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Lock>> {
        search::locks(prefix, after, check_limit(limit)?)
    }

    fn changes(&mut self, prefix: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Lock>> {
        let limit = check_limit(limit)?;
        let begun = context::remaining();
        let mut after = after;
        loop {
            let passed = begun.saturating_sub(context::remaining()).as_millis();
            let wait_ms = wait_ms.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            let changes = TABLE.changes("", after, limit, wait_ms)?;
            let Some(last) = changes.last() else { return Ok(Vec::new()) };
            after = revision_of(last);
            search::pass_on(&changes)?;
            let locks = search::changed(prefix, &changes)?;
            if !locks.is_empty() {
                return Ok(locks);
            }
        }
    }

    fn revision(&mut self) -> Result<u64> {
        Ok(TABLE.revision()?)
    }
}

impl Durable {
    /// Now and then settles lines whose holders went when nobody followed the changes, so that nothing is left of them.
    fn sweep(&mut self) {
        self.made = self.made.wrapping_add(1);
        if self.made.is_multiple_of(SWEEP_EVERY)
            && let Ok(next) = search::sweep(self.swept.as_deref(), SWEEP)
        {
            self.swept = next;
        }
    }
}

/// Takes a place at the end of a line.
fn join(name: &str, want: &Want, lease: &str, ttl_ms: Option<u64>, holder: &str, queue: bool) -> Result<Place> {
    let record = record::Lease { holder: holder.to_owned(), ttl_ms: ttl_ms.unwrap_or_default(), own: true }.encode();
    let (lease_key, place_key) = (key::lease(lease), key::place(lease, name));
    let kept = match ttl_ms {
        Some(_) => Write::Put(Put { key: &lease_key, value: &record, condition: Condition::Absent, ttl_ms }),
        None => Write::Check(Check { key: &lease_key, condition: Condition::Present }),
    };
    let listed = Write::Put(Put { key: &place_key, value: &[], condition: Condition::Always, ttl_ms: None });
    for () in context::attempts() {
        let mut step = Step::read(name, None)?;
        if step.is_cut() {
            store::settled(name, None)?;
            continue;
        }
        let held = check_room(&step.line, name, want, queue)?;
        // Tokens never exceed the revision of the commit that gave them: so they go on when nothing is left of the line.
        let token = step.line.last.max(TABLE.revision()?) + 1;
        let place = Place {
            token,
            held,
            mode: want.mode,
            lease: lease.to_owned(),
            holder: holder.to_owned(),
            value: want.value.clone(),
            since_ms: context::time_ms(),
        };
        step.line.last = token;
        step.line.places.push(place.clone());
        match step.commit(&[kept.clone(), listed.clone()]) {
            Ok(_) => return Ok(place),
            Err(storage::Error::Conflict(met)) if met.key == lease_key => {
                return Err(if ttl_ms.is_some() { taken(lease) } else { ended(lease) });
            }
            Err(storage::Error::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(store::busy(name))
}

/// Whether a new place would be held at once.
fn check_room(line: &Line, name: &str, want: &Want, queue: bool) -> Result<bool> {
    line.check(name, want.mode)?;
    let held = line.admits(want.mode);
    if !held && !queue {
        return Err(Error::Held(line.describe(name)));
    }
    if line.places.len() >= PLACES_MAX {
        return Err(Error::Crowded(format!("{PLACES_MAX} hold `{}` or wait for it already", name.escape_debug())));
    }
    Ok(held)
}

/// Changes a line for whoever has the place with a token; the revision. What `make` names goes with it.
fn change(name: &str, token: u64, make: impl Fn(&mut Step<'_>, &Place) -> Result<Option<String>>) -> Result<u64> {
    check_name(name)?;
    for () in context::attempts() {
        let mut step = Step::read(name, None)?;
        let Some(place) = step.line.find(token).cloned() else {
            let name = name.escape_debug();
            return Err(Error::NotFound(format!("nobody has the token {token} of `{name}`: it was given up or lost")));
        };
        check_holder(&place.holder)?;
        let goes = make(&mut step, &place)?;
        let goes = goes.iter().map(|key| Write::Delete(Delete { key, condition: Condition::Always }));
        match step.commit(&goes.collect::<Vec<_>>()) {
            Err(storage::Error::Conflict(_)) => {}
            done => return Ok(done?),
        }
    }
    Err(store::busy(name))
}

/// Checks that the caller made the lease, for more than one place.
fn check_shared(lease: &str, holder: &str) -> Result<()> {
    let (record, _) = store::lease(lease)?.ok_or_else(|| ended(lease))?;
    if record.holder != holder {
        return Err(Error::Denied(format!("the lease `{lease}` is not the caller's: make one")));
    }
    if record.own {
        return Err(Error::Invalid(format!("the lease `{lease}` goes with its own place: make one for several")));
    }
    Ok(())
}

/// The lease as it is.
fn found(id: &str) -> Result<Lease> {
    let (record::Lease { holder, ttl_ms, .. }, expires_ms) = store::lease(id)?.ok_or_else(|| ended(id))?;
    Ok(Lease { id: id.to_owned(), holder, ttl_ms, expires_ms })
}

fn ended(lease: &str) -> Error {
    Error::NotFound(format!("there is no lease `{lease}`: it has ended, and what hung on it is lost"))
}

fn taken(lease: &str) -> Error {
    Error::Invalid(format!("there is a lease `{lease}` already"))
}

fn revision_of(change: &Change) -> u64 {
    match change {
        Change::Put(entry) => entry.revision,
        Change::Delete((_, revision)) => *revision,
    }
}

#[cfg(test)]
mod tests;
