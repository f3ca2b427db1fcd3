//! Deliveries: handed out, and settled.
//!
//! Invariant: a delivery is written down, with where its consumer goes on, before anybody gets it; an acknowledgement removes
//! what was written. So what was acknowledged never comes again, and all else does.

use platform_sdk::{
    codec::Malformed,
    context,
    event::{Delivery, Draft, Error, Event, Received, Result, Settlement, TopicSettings, Verdict, check_name, selects},
    storage::Condition,
};

use crate::{
    TABLE, contended, damaged, key,
    publish::{self, Batch},
    record::{Pending, Position},
    subscription::{self, Known},
    topic::{self, Found},
};

/// Most bytes of data in one answer, and of dead letters in one commit.
const BYTES_MAX: usize = 4 << 20;
/// Most deliveries that wait at one consumer.
const PENDING_MAX: u32 = 1000;
/// Events that are read at once.
const PAGE: u32 = 250;
/// Most events that go to the dead-letter topic at once.
const DEAD_AT_ONCE: usize = 64;
/// Most bytes of data that are rejected at once.
const REJECTED_BYTES_MAX: usize = 8 << 20;
/// How long a dead-letter topic that is made on the way remembers ids: not at all.
const DEAD_LETTERS: TopicSettings = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 0 };

/// One consumer of a subscription.
struct Consumer {
    topic: Found,
    known: Known,
    name: String,
}

impl Consumer {
    fn load(topic: &str, subscription: &str, consumer: &str) -> Result<Self> {
        let topic = topic::load(topic)?;
        let known = subscription::load(&topic, subscription)?;
        // Those that share a subscription share its place.
        let fan_out = known.subscribed.settings.fan_out;
        if fan_out {
            check_name("consumer of a fan-out", consumer)?;
        }
        let name = if fan_out { consumer.to_owned() } else { String::new() };
        Ok(Self { topic, known, name })
    }

    fn position_key(&self) -> String {
        self.known.positions(&self.topic) + &self.name
    }

    fn pending_prefix(&self) -> String {
        format!("{}{}!", self.known.pending(&self.topic), self.name)
    }

    fn pending_key(&self, sequence: u64) -> String {
        format!("{}{sequence:016x}", self.pending_prefix())
    }

    /// The event of a sequence, unless retention took it.
    fn event(&self, sequence: u64, now_ms: u64) -> Result<Option<Event>> {
        let stored = TABLE.get(&self.topic.place.event(sequence))?;
        Ok(stored.map(|stored| self.topic.event(&stored, now_ms)).transpose()?.flatten())
    }

    /// The event as it is kept among the dead letters; why it was rejected, unless it was delivered too often.
    fn dead_letter(&self, event: Event, attempts: u32, why: Option<&str>) -> Draft {
        let mut draft = event.content;
        draft.metadata.retain(|(name, _)| !name.starts_with("deadletter"));
        let facts = [
            ("deadletterattempts", attempts.to_string()),
            ("deadlettersequence", event.sequence.to_string()),
            ("deadlettersubscription", self.known.name.clone()),
            ("deadlettertopic", event.topic),
        ];
        let why = why.map(|why| ("deadletterreason", why.to_owned()));
        draft.metadata.extend(facts.into_iter().chain(why).map(|(name, value)| (name.to_owned(), value)));
        draft.metadata.sort();
        Draft { deduplicated: false, ..draft }
    }

    /// Publishes what goes to the dead-letter topic, in the same commit that takes it from the consumer.
    fn bury(&self, batch: &mut Batch, dead: &[Draft]) -> Result<()> {
        if dead.is_empty() {
            return Ok(());
        }
        let name = &self.known.subscribed.settings.dead_letter;
        let (found, condition) = match topic::find(name)? {
            Some(found) => {
                let condition = Condition::At(found.revision);
                (found, condition)
            }
            None => {
                let head = topic::fresh(DEAD_LETTERS);
                let place = key::Place::new(name, head.number);
                (Found { name: name.clone(), place, head, revision: 0 }, Condition::Absent)
            }
        };
        publish::stage(batch, &found, condition, dead)?;
        Ok(())
    }
}

/// An answer in the making.
struct Round<'a> {
    consumer: &'a Consumer,
    now_ms: u64,
    limit: usize,
    batch: Batch,
    deliveries: Vec<Delivery>,
    dead: Vec<Draft>,
    bytes: usize,
    /// Deliveries that wait, those of this round included.
    waiting: usize,
    due_ms: Option<u64>,
    missed: u64,
    more: bool,
}

/// Hands out what is to be delivered now.
pub(crate) fn receive(topic: &str, subscription: &str, consumer: &str, limit: u32) -> Result<Received> {
    for () in context::attempts() {
        let consumer = Consumer::load(topic, subscription, consumer)?;
        let mut round = Round {
            consumer: &consumer,
            now_ms: context::time_ms(),
            limit: limit as usize,
            batch: Batch::default(),
            deliveries: Vec::new(),
            dead: Vec::new(),
            bytes: 0,
            waiting: 0,
            due_ms: None,
            missed: 0,
            more: false,
        };
        round.again()?;
        round.further()?;
        consumer.bury(&mut round.batch, &round.dead)?;
        if round.batch.is_empty() || round.batch.commit()?.is_some() {
            let Round { mut deliveries, due_ms, more, .. } = round;
            deliveries.sort_by_key(|delivery| delivery.event.sequence);
            return Ok(Received { deliveries, due_ms, more });
        }
    }
    Err(contended(subscription))
}

impl Round<'_> {
    fn is_full(&self) -> bool {
        self.deliveries.len() >= self.limit || self.bytes >= BYTES_MAX
    }

    fn deliver(&mut self, event: Event, attempt: u32, condition: Condition) {
        let due_ms = self.now_ms.saturating_add(self.consumer.known.subscribed.settings.ack_wait_ms);
        let pending = Pending { attempt, due_ms };
        self.batch.put(self.consumer.pending_key(event.sequence), pending.encode(), condition, None);
        self.bytes += event.content.data.len();
        self.due(due_ms);
        self.deliveries.push(Delivery { event, attempt, due_ms });
    }

    fn due(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |least| least.min(due_ms)));
    }

    /// What was delivered before and is due again.
    fn again(&mut self) -> Result<()> {
        let most = self.consumer.known.subscribed.settings.deliveries_max;
        for entry in TABLE.scan(&self.consumer.pending_prefix(), None, PENDING_MAX)? {
            let sequence = key::last_number(&entry.key).ok_or_else(|| damaged(Malformed))?;
            let pending = Pending::decode(&entry.value).map_err(damaged)?;
            self.waiting += 1;
            if pending.due_ms > self.now_ms || self.is_full() || self.dead.len() >= DEAD_AT_ONCE {
                self.more |= pending.due_ms <= self.now_ms;
                self.due(pending.due_ms);
                continue;
            }
            let event = self.consumer.event(sequence, self.now_ms)?;
            let condition = Condition::At(entry.revision);
            match event {
                None => {
                    self.batch.delete(entry.key, condition);
                    self.missed += 1;
                    self.waiting -= 1;
                }
                Some(event) if most > 0 && pending.attempt >= most => {
                    self.bytes += event.content.data.len();
                    self.dead.push(self.consumer.dead_letter(event, pending.attempt, None));
                    self.batch.delete(entry.key, condition);
                    self.waiting -= 1;
                }
                Some(event) => self.deliver(event, pending.attempt + 1, condition),
            }
        }
        Ok(())
    }

    /// What was not delivered yet.
    fn further(&mut self) -> Result<()> {
        let consumer = self.consumer;
        let settings = &consumer.known.subscribed.settings;
        let key = consumer.position_key();
        let found = TABLE.get(&key)?;
        let condition = found.as_ref().map_or(Condition::Absent, |found| Condition::At(found.revision));
        let old = match &found {
            Some(found) => Position::decode(&found.value).map_err(damaged)?,
            None => Position { next: consumer.known.subscribed.from, missed: 0 },
        };
        let mut next = old.next;
        let mut room = (settings.pending_max as usize).saturating_sub(self.waiting);
        'pages: while !self.is_full() && room > 0 {
            let after = consumer.topic.place.event(next.saturating_sub(1));
            let entries = TABLE.scan(&consumer.topic.place.events(), Some(&after), PAGE)?;
            for entry in &entries {
                if self.is_full() || room == 0 {
                    self.more = room > 0;
                    break 'pages;
                }
                let sequence = key::last_number(&entry.key).ok_or_else(|| damaged(Malformed))?;
                self.missed += sequence.saturating_sub(next);
                next = sequence + 1;
                match consumer.topic.event(entry, self.now_ms)? {
                    None => self.missed += 1,
                    Some(event) if selects(&settings.types, &event.content.type_) => {
                        self.deliver(event, 1, Condition::Absent);
                        room -= 1;
                    }
                    Some(_) => {}
                }
            }
            if entries.len() < PAGE as usize {
                // Nothing follows but what was there before and is not any more.
                let end = consumer.topic.head.next;
                self.missed += end.saturating_sub(next);
                next = next.max(end);
                break;
            }
            if context::remaining() < std::time::Duration::from_secs(1) {
                self.more = true;
                break;
            }
        }
        if next != old.next || self.missed > 0 {
            let position = Position { next, missed: old.missed + self.missed };
            self.batch.put(key, position.encode(), condition, None);
        }
        Ok(())
    }
}

/// Records verdicts; with each whether its delivery was waiting for one.
pub(crate) fn settle(topic: &str, subscription: &str, consumer: &str, settlements: &[Settlement]) -> Result<Vec<bool>> {
    if settlements.is_empty() || settlements.len() > platform_sdk::event::MAX_DELIVERIES as usize {
        return Err(Error::TooLarge(format!("{} deliveries at once; settle 1 to 256", settlements.len())));
    }
    for () in context::attempts() {
        let consumer = Consumer::load(topic, subscription, consumer)?;
        let now_ms = context::time_ms();
        let keys: Vec<String> = settlements.iter().map(|one| consumer.pending_key(one.sequence)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (mut batch, mut settled) = (Batch::default(), Vec::with_capacity(settlements.len()));
        let (mut dead, mut dead_bytes) = (Vec::new(), 0);
        for (settlement, entry) in settlements.iter().zip(TABLE.get_many(&keys)?) {
            let Some(entry) = entry else {
                settled.push(false);
                continue;
            };
            let pending = Pending::decode(&entry.value).map_err(damaged)?;
            let latest = settlement.attempt == pending.attempt;
            let later_ms = match &settlement.verdict {
                Verdict::Nak(delay_ms) if latest => Some(*delay_ms),
                Verdict::Extend if latest => Some(consumer.known.subscribed.settings.ack_wait_ms),
                // Work that was done is done, by whomever.
                Verdict::Ack if settlement.attempt > 0 && settlement.attempt <= pending.attempt => None,
                Verdict::Reject(why) if latest => {
                    // What retention has taken meanwhile is gone all the same.
                    if let Some(event) = consumer.event(settlement.sequence, now_ms)? {
                        dead_bytes += event.content.data.len();
                        dead.push(consumer.dead_letter(event, pending.attempt, Some(why)));
                    }
                    None
                }
                _ => {
                    settled.push(false);
                    continue;
                }
            };
            settled.push(true);
            match later_ms {
                None => batch.delete(entry.key, Condition::Present),
                Some(later_ms) => {
                    let pending = Pending { due_ms: now_ms.saturating_add(later_ms), ..pending };
                    batch.put(entry.key, pending.encode(), Condition::At(entry.revision), None);
                }
            }
        }
        if dead.len() > DEAD_AT_ONCE || dead_bytes > REJECTED_BYTES_MAX {
            let why = format!(
                "{} events of {dead_bytes} bytes at once; reject up to {DEAD_AT_ONCE}, of {REJECTED_BYTES_MAX} bytes",
                dead.len()
            );
            return Err(Error::TooLarge(why));
        }
        consumer.bury(&mut batch, &dead)?;
        if batch.is_empty() || batch.commit()?.is_some() {
            return Ok(settled);
        }
    }
    Err(contended(subscription))
}
