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
    Result,
    backend::Backend,
    codec::{Journal, Space},
    queue::{Request, Work},
    stage::{Plan, Stage},
    store::Shared,
};

/// How often the committer asks whether any key expires at all; if none does, it sleeps until it is called.
const LEASE_CHECK: Duration = Duration::from_secs(10);

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
}

impl<'a, B: Backend> Committer<'a, B> {
    fn new(shared: &'a Shared<B>) -> Self {
        let unswept = shared.registry.journals().into_iter().collect();
        Self { shared, looked_ms: 0, leases: true, checked: clock::now(), unswept }
    }

    fn run(mut self) {
        loop {
            let patience = match (self.unswept.is_empty(), self.leases) {
                (false, _) => Some(Duration::ZERO),
                (true, true) => Some(self.shared.options.expiry_tick),
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

    /// Makes a group, after what is due has expired.
    fn make(&mut self, group: Vec<Request>) {
        let shared = self.shared;
        let mut answers = Vec::with_capacity(group.len());
        let mut trimmed = Vec::new();
        let staged = shared.backend.read(|view| {
            let mut stage = Stage::new(view, &shared.registry, &shared.options);
            let look = if self.leases { Some(stage.expire_due(self.looked_ms)?) } else { None };
            for Request { work, reply, .. } in group {
                let answer = match work {
                    Work::Commit(name, writes, limit) => stage.commit(&name, writes, limit),
                    Work::Append(name, items) => stage.append(&name, items),
                    Work::Trim(name, before) => {
                        let first = stage.trim(&name, before);
                        trimmed.push(name);
                        first
                    }
                    Work::Expire => Ok(0),
                };
                answers.push((reply, answer));
            }
            Ok((stage.plan()?, look))
        });
        let made = staged.and_then(|(plan, look)| {
            let first_expiry = plan.first_expiry;
            self.write(plan, answers.len())?;
            if let Some(look) = look {
                self.looked_ms = look.next_ms;
            }
            if first_expiry != u64::MAX {
                self.leases = true;
                // A wall clock that was set back can put an expiry before the last look.
                self.looked_ms = self.looked_ms.min(first_expiry);
            }
            Ok(())
        });
        if let Err(error) = &made {
            tracing::error!(%error, requests = answers.len(), "storage could not make a group of writes");
            // What broke one look breaks the next one too, and reads hide what is due anyway: no need to fail at the
            // pace of the timer.
            self.leases &= !answers.is_empty();
        }
        self.unswept.extend(trimmed);
        for (reply, answer) in answers {
            // Whoever asked may have gone; the write is made all the same.
            let _gone = reply.send(made.clone().and(answer));
        }
    }

    fn write(&self, plan: Plan, requests: usize) -> Result<()> {
        if plan.ops.is_empty() {
            return Ok(());
        }
        let started = clock::now();
        let writes = plan.ops.len();
        self.shared.backend.write(plan.ops)?;
        self.shared.counters.batch(requests, writes, started.elapsed());
        for (name, id, tip) in plan.tips {
            self.shared.registry.publish(&name, id, tip);
        }
        Ok(())
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
            Some((plan, more)) => self.write(plan, 0).map(|()| more),
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
