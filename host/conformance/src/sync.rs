//! What every provider of `sync.lock` promises.

use std::time::Duration;

use platform_base::clock;
use platform_capability::{
    Call,
    sync::{Error, Mode, Permits, Want},
};
use platform_dataplane::{CallError, Held, Keep, Taken};

use crate::{
    Check, Checked, Failure, Subject, checks,
    outcome::{answered, holds, refused, same, shown},
    subject::until,
};

pub(crate) const SUITE: &[Check] = checks! {
    "exclusion" "a lock has one holder, and only the holder gives it up" exclusion,
    "tokens" "fencing tokens grow with every grant, also when nothing is left of a lock" tokens,
    "order" "places are held in the order they were asked for" order,
    "modes" "readers share, writers do not, and permits are no more than there are" modes,
    "leases" "what hangs on a lease goes with it, at most 250 ms late, and is kept by keep-alive" leases,
    "namespaces" "locks of one namespace don't hold up another's" namespaces,
};

const TTL_MS: u64 = 60_000;
const WAIT: Duration = Duration::from_secs(8);
/// How much later than its lease a place may go, with time for the calls on a busy machine.
const LATE: Duration = Duration::from_millis(1000);

type Answer = Result<Taken, CallError<Error>>;

async fn ask(subject: &Subject, call: &Call, name: &str, mode: Mode, ttl_ms: u64, wait: Duration) -> Answer {
    let want = Want { mode, value: None };
    subject.plane().sync().acquire(call, name, &want, &Keep::Own(ttl_ms), clock::now() + wait).await
}

/// Takes a place that has to be free.
async fn take(subject: &Subject, who: &str, name: &str, mode: Mode) -> Result<Held, Failure> {
    match answered(ask(subject, &subject.call_of(who, &[]), name, mode, TTL_MS, Duration::ZERO).await, "`acquire`")? {
        Taken::Held(held) => Ok(held),
        Taken::Queued(_) => Err(Failure::new(format!("`{name}` is free, and {who} has to wait for it"))),
    }
}

/// The place has to be taken.
async fn is_taken(subject: &Subject, name: &str, mode: Mode) -> Checked {
    let what = format!("`acquire` of `{name}`, which is held, without waiting");
    let answer = ask(subject, &subject.call_of("late", &[]), name, mode, TTL_MS, Duration::ZERO).await;
    let refusal = refused(answer, &what)?;
    holds(matches!(refusal, Error::Held(_)), &format!("{what} is `held`, not {}", shown(&refusal)))
}

async fn release(subject: &Subject, who: &str, name: &str, held: &Held) -> Checked {
    let released = subject.plane().sync().release(&subject.call_of(who, &[]), name, held.place.token).await;
    answered(released, "`release`")
}

async fn exclusion(subject: Subject) -> Checked {
    let first = take(&subject, "alice", "lock", Mode::Exclusive).await?;
    same(&first.place.holder.as_str(), &"alice", "the holder")?;
    is_taken(&subject, "lock", Mode::Exclusive).await?;
    let stolen = subject.plane().sync().release(&subject.call_of("bob", &[]), "lock", first.place.token).await;
    refused(stolen, "`release` by another than the holder")?;
    is_taken(&subject, "lock", Mode::Exclusive).await?;
    release(&subject, "alice", "lock", &first).await?;
    let second = take(&subject, "bob", "lock", Mode::Exclusive).await?;
    same(&second.place.holder.as_str(), &"bob", "the next holder")?;
    release(&subject, "bob", "lock", &second).await
}

async fn tokens(subject: Subject) -> Checked {
    let mut last = 0;
    for round in 0..20 {
        let held = take(&subject, "alice", "fenced", Mode::Exclusive).await?;
        let token = held.place.token;
        holds(token > last, &format!("token {token} of grant {round} has to be greater than {last}"))?;
        last = token;
        release(&subject, "alice", "fenced", &held).await?;
    }
    Ok(())
}

async fn order(subject: Subject) -> Checked {
    let mut holder = ("0".to_owned(), take(&subject, "0", "line", Mode::Exclusive).await?);
    let mut waiting = Vec::new();
    for who in ["1", "2", "3", "4"] {
        let answer = ask(&subject, &subject.call_of(who, &[]), "line", Mode::Exclusive, TTL_MS, WAIT).await;
        match answered(answer, "`acquire`")? {
            Taken::Queued(queued) => waiting.push((who, queued)),
            Taken::Held(_) => return Err(Failure::new(format!("`line` is held, and {who} got it too"))),
        }
    }
    for (who, queued) in waiting {
        release(&subject, &holder.0, "line", &holder.1).await?;
        let held = answered(queued.held().await, &format!("the turn of {who}"))?;
        same(&held.place.holder.as_str(), &who, "whose turn it is")?;
        holder = (who.to_owned(), held);
    }
    release(&subject, &holder.0, "line", &holder.1).await
}

async fn modes(subject: Subject) -> Checked {
    let one = take(&subject, "a", "shared", Mode::Shared).await?;
    let two = take(&subject, "b", "shared", Mode::Shared).await?;
    is_taken(&subject, "shared", Mode::Exclusive).await?;
    release(&subject, "a", "shared", &one).await?;
    is_taken(&subject, "shared", Mode::Exclusive).await?;
    release(&subject, "b", "shared", &two).await?;
    take(&subject, "c", "shared", Mode::Exclusive).await?;
    is_taken(&subject, "shared", Mode::Shared).await?;
    let permits = |count| Mode::Permits(Permits { count, limit: 3 });
    let large = take(&subject, "a", "permits", permits(2)).await?;
    take(&subject, "b", "permits", permits(1)).await?;
    is_taken(&subject, "permits", permits(1)).await?;
    release(&subject, "a", "permits", &large).await?;
    take(&subject, "c", "permits", permits(2)).await.map(drop)
}

async fn leases(subject: Subject) -> Checked {
    const TTL: Duration = Duration::from_millis(2000);
    let call = || subject.call_of("alice", &[]);
    let begun = clock::now();
    let held =
        match answered(ask(&subject, &call(), "short", Mode::Exclusive, 2000, Duration::ZERO).await, "`acquire`")? {
            Taken::Held(held) => held,
            Taken::Queued(_) => return Err(Failure::new("`short` is free, and has to be waited for")),
        };
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let kept = subject.plane().sync().keep_alive(&call(), &held.lease.id).await;
        answered(kept, "`keep-alive` every 700 ms of a lease of 2 s")?;
    }
    let kept = clock::now();
    is_taken(&subject, "short", Mode::Exclusive).await?;
    until("the end of a lease of 2 s", Duration::from_secs(10), async || {
        Ok(answered(subject.plane().sync().get(&subject.call(), "short").await, "`get`")?.is_none())
    })
    .await?;
    let gone = clock::now();
    let early = gone.saturating_duration_since(begun);
    holds(
        early >= TTL + TTL,
        &format!("a lease that was kept for 2.1 s and lasts 2 s was gone after {} ms", early.as_millis()),
    )?;
    let late = gone.saturating_duration_since(kept);
    holds(late <= TTL + LATE, &format!("a lease of 2 s was still there {} ms after it was kept", late.as_millis()))
}

async fn namespaces(subject: Subject) -> Checked {
    let other = subject.beside()?;
    let held = take(&subject, "alice", "same", Mode::Exclusive).await?;
    let beside = take(&other, "bob", "same", Mode::Exclusive).await?;
    release(&other, "bob", "same", &beside).await?;
    is_taken(&subject, "same", Mode::Exclusive).await?;
    release(&subject, "alice", "same", &held).await
}
