//! The committer: one thread through which every change goes.
//!
//! Owns group commit and the expiry timer; must not know the rules of tables. Invariant: a request is answered after
//! the batch that holds it is durable and its revision is shown, and all requests of a batch share one fsync.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use platform_base::clock;

use crate::{
    Error, Result,
    backend::{Backend, Written},
    codec::{Journal, Kind, Space},
    queue::{Request, Work},
    stage::{Plan, Stage},
    store::Shared,
};

/// How often the committer asks whether any key expires at all; if none does, it sleeps until it is called.
const LEASE_CHECK: Duration = Duration::from_secs(10);

/// How often it asks whether another process set a key that expires, while it knows of none, and how often it tries
/// again to expire what is due when that failed.
const FOREIGN_CHECK: Duration = Duration::from_millis(100);
/// Longest that a group is worked out again and again because other processes were quicker.
const OUTRUN: Duration = Duration::from_secs(10);

/// Starts the thread.
pub(crate) fn start<B: Backend>(shared: Arc<Shared<B>>) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("storage-commit".to_owned()).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(|| Committer::new(&shared).run()));
        if ended.is_err() {
            tracing::error!("the storage committer panicked; storage takes no more writes until a restart");
        }
        shared.queue.abandon();
    })
}

struct Committer<'a, B> {
    shared: &'a Shared<B>,
    /// Nothing due lies before this time.
    looked_ms: u64,
    /// Whether keys may be waiting for their expiry.
    leases: bool,
    checked: clock::Instant,
    /// Journals with trimmed items still on disk.
    unswept: HashSet<Vec<u8>>,
    /// Whether the last group could not be made.
    failing: bool,
}

impl<'a, B: Backend> Committer<'a, B> {
    fn new(shared: &'a Shared<B>) -> Self {
        let unswept = shared.registry.names(Kind::Journal).into_iter().collect();
        Self { shared, looked_ms: 0, leases: true, checked: clock::now(), unswept, failing: false }
    }

    fn run(mut self) {
        loop {
            self.expects(self.shared.backend.foreign_expiry());
            let patience = match (self.unswept.is_empty(), self.leases) {
                (false, _) => Some(Duration::ZERO),
                (true, true) if self.failing => Some(FOREIGN_CHECK),
                (true, true) => Some(self.shared.options.expiry_tick),
                (true, false) if B::COMMON => Some(FOREIGN_CHECK),
                (true, false) => None,
            };
            let Some(group) = self.shared.queue.take(patience) else { return };
            if group.is_empty() {
                self.sweep();
                self.check_leases();
            }
            self.make(group);
        }
    }

    /// Makes a group, after what is due has expired. When another process was quicker, the group is worked out again on
    /// what that one made.
    fn make(&mut self, group: Vec<Request>) {
        let began = clock::now();
        let (work, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|request| (request.work, request.reply)).unzip();
        let answers = loop {
            match self.attempt(&work) {
                Ok(Some(answers)) => break answers,
                Ok(None) if began.elapsed() < OUTRUN => {}
                Ok(None) => {
                    let why = "others wrote all the time and this write never had its turn; nothing of it was made";
                    break vec![Err(Error::Unavailable(why.to_owned())); work.len()];
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%error, requests = work.len(), "storage could not make a group of writes");
                    }
                    // What broke one look breaks the next one too, and reads hide what is due anyway: no need to fail
                    // at the pace of the timer. Where others write too, it was more likely a server that was away.
                    self.leases &= B::COMMON || !work.is_empty();
                    break vec![Err(error); work.len()];
                }
            }
        };
        self.unswept.extend(work.into_iter().filter_map(|work| match work {
            Work::Trim(name, _) => Some(name),
            _ => None,
        }));
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Whoever asked may have gone; the write is made all the same.
            let _gone = reply.send(answer);
        }
    }

    /// Works a group out and makes it; an answer to each of its requests, none when the view was outdated.
    fn attempt(&mut self, group: &[Work]) -> Result<Option<Vec<Result<u64>>>> {
        let shared = self.shared;
        let (answers, plan, look) = shared.backend.read(|view| {
            let mut stage = Stage::new(view, &shared.registry, &shared.options);
            let look = if self.leases { Some(stage.expire_due(self.looked_ms)?) } else { None };
            let answers: Vec<_> = group
                .iter()
                .map(|work| match work.clone() {
                    Work::Commit(name, writes, limit) => stage.commit(&name, writes, limit),
                    Work::Append(name, items) => stage.append(&name, items),
                    Work::Trim(name, before) => stage.trim(&name, before),
                    Work::Restore(name, rows, revision) => stage.restore(&name, rows, revision).map(|()| 0),
                    Work::RestoreItems(name, first, items) => stage.restore_items(&name, first, items).map(|()| 0),
                    Work::Expire => Ok(0),
                })
                .collect();
            Ok((answers, stage.plan()?, look))
        })?;
        let first_expiry = plan.first_expiry;
        if self.write(plan, group.len())? == Written::Outdated {
            return Ok(None);
        }
        self.failing = false;
        if let Some(look) = look {
            self.looked_ms = look.next_ms;
        }
        self.expects(first_expiry);
        Ok(Some(answers))
    }

    /// Takes note that a key expires then.
    fn expects(&mut self, expires_ms: u64) {
        if expires_ms != u64::MAX {
            self.leases = true;
            // A wall clock that was set back can put an expiry before the last look.
            self.looked_ms = self.looked_ms.min(expires_ms);
        }
    }

    fn write(&self, plan: Plan, requests: usize) -> Result<Written> {
        // Where others write too, an answer that changes nothing must also come from the newest state.
        if plan.ops.is_empty() && !(B::COMMON && requests > 0) {
            return Ok(Written::Made);
        }
        let started = clock::now();
        let writes = plan.ops.len();
        if self.shared.backend.write(plan.ops, plan.position)? == Written::Outdated {
            return Ok(Written::Outdated);
        }
        self.shared.counters.batch(requests, writes, started.elapsed());
        for (name, id, tip) in plan.tips {
            self.shared.registry.publish(&name, id, tip);
        }
        Ok(Written::Made)
    }

    /// Removes some of what was trimmed from disk.
    fn sweep(&mut self) {
        let Some(name) = self.unswept.iter().next().cloned() else { return };
        let shared = self.shared;
        let swept = shared.backend.read(|view| {
            // A name that was trimmed before it was ever written has nothing to sweep.
            if view.load::<Journal>(Space::Names, &name)?.is_none() {
                return Ok(None);
            }
            let mut stage = Stage::new(view, &shared.registry, &shared.options);
            let more = stage.sweep(&name)?;
            Ok(Some((stage.plan()?, more)))
        });
        let more = swept.and_then(|swept| match swept {
            Some((plan, more)) => self.write(plan, 0).map(|written| more || written == Written::Outdated),
            None => Ok(false),
        });
        match more {
            Ok(true) => {}
            Ok(false) => {
                self.unswept.remove(&name);
            }
            Err(error) => {
                tracing::warn!(%error, "trimmed items stay on disk until a restart");
                self.unswept.remove(&name);
            }
        }
    }

    /// Finds out now and then whether the timer is still needed.
    fn check_leases(&mut self) {
        if !self.leases || self.checked.elapsed() < LEASE_CHECK {
            return;
        }
        self.checked = clock::now();
        let mut any = false;
        let looked = self.shared.backend.read(|view| {
            view.walk(Space::Expiries, &self.looked_ms.to_be_bytes(), &[u8::MAX; 9], &mut |_, _| {
                any = true;
                Ok(std::ops::ControlFlow::Break(()))
            })
        });
        self.leases = any || looked.is_err();
    }
}
