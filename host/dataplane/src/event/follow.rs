//! Following a topic: its events as they are published, without a subscription.
//!
//! Invariant: events come in order of sequences and none is left out that is still kept; what many follow is read once.

use std::{collections::VecDeque, pin::Pin};

use futures::{Stream, StreamExt};
use platform_capability::{Call, event};

use super::{Event, Result, ask, check_name, check_types, deliver::renewed, selects};
use crate::{provider::Watched, watch};

/// Events that are read at once while catching up.
const PAGE: u32 = 100;

struct Following {
    event: Event,
    call: Call,
    topic: String,
    types: Vec<String>,
    /// Sequence that comes next.
    next: u64,
    /// Last sequence that is known of, whether or not it was asked for.
    top: u64,
    /// Revision at which that was so.
    seen: u64,
    /// Whether everything before `next` is known, so that news can be taken as they come.
    current: bool,
    ready: VecDeque<event::Event>,
    news: Pin<Box<dyn Stream<Item = Watched<Event>> + Send>>,
}

impl Event {
    /// Events of a topic from a sequence on, or from now on, for as long as the stream is read.
    ///
    /// # Errors
    /// There is no such topic; see [`CallError`](crate::CallError).
    pub async fn follow(
        &self, call: &Call, topic: &str, from: Option<u64>, types: Vec<String>,
    ) -> Result<impl Stream<Item = Result<event::Event>> + Send + 'static + use<>> {
        check_name("topic", topic)?;
        check_types(&types)?;
        let news = self.news(call, topic).await?;
        let last = self.topic(&renewed(call), topic).await?.last;
        let seen = ask(self.provider.revision(&renewed(call)).await)?;
        let following = Following {
            event: self.clone(),
            call: call.clone(),
            topic: topic.to_owned(),
            types,
            next: from.unwrap_or(last + 1).max(1),
            top: last,
            seen,
            current: false,
            ready: VecDeque::new(),
            news,
        };
        Ok(futures::stream::unfold(Some(following), |following| async move {
            let mut following = following?;
            let item = following.next().await;
            let following = item.is_ok().then_some(following);
            Some((item, following))
        }))
    }
}

impl Following {
    async fn next(&mut self) -> Result<event::Event> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.next = event.sequence + 1;
                self.know(&event);
                if selects(&self.types, &event.content.type_) {
                    return Ok(event);
                }
            }
            if self.current {
                self.listen().await?;
            } else {
                let (events, more) = self.event.read(&renewed(&self.call), &self.topic, self.next, PAGE, false).await?;
                self.current = !more;
                self.ready.extend(events);
            }
        }
    }

    fn know(&mut self, event: &event::Event) {
        self.top = self.top.max(event.sequence);
        self.seen = self.seen.max(event.revision);
    }

    /// Takes the next news.
    async fn listen(&mut self) -> Result<()> {
        match self.news.next().await {
            Some(Ok(watch::Event::Changes(events))) => {
                let mut next = self.next;
                for event in events {
                    if event.sequence <= self.top && event.revision > self.seen {
                        // A topic that was removed and made again begins anew.
                        (self.next, self.top, self.current) = (1, 0, false);
                        self.ready.clear();
                        return Ok(());
                    }
                    self.know(&event);
                    if event.sequence < next {
                        continue;
                    }
                    // News without data may be those whose data was left out.
                    if event.sequence > next || event.content.data.is_empty() {
                        self.current = false;
                        return Ok(());
                    }
                    next = event.sequence + 1;
                    self.ready.push_back(event);
                }
            }
            Some(Ok(watch::Event::Progress(_))) => {}
            Some(Err(_)) | None => {
                self.news = self.event.news(&self.call, &self.topic).await?;
                self.current = false;
            }
        }
        Ok(())
    }
}
