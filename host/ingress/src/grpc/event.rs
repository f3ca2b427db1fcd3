//! `platform.event.v1.Events`.

mod webhook;

use std::time::Duration;

use futures::{StreamExt, stream};
use platform_capability::{
    Call,
    event::{self, Delivery, Query, Start, Subscription, SubscriptionSettings, Topic, TopicSettings, Verdict},
};
use platform_dataplane::{Consumer, NewEvent, Outcome};
use platform_proto::event::v1::{self as proto, events_server::Events, start::At};
use tonic::{Request, Response, Status};

use webhook::{created_out, new_in, webhook_out};

use super::{
    Shared, admitted,
    error::{status, webhook_status},
    milliseconds,
    page::{Page, number, token},
    stream::Answers,
    timestamp,
};

/// How long ids are remembered unless the topic says otherwise, in milliseconds.
const WINDOW_MS: u64 = 120_000;
/// How long a delivery may take unless the subscription says otherwise, in milliseconds.
const ACK_WAIT_MS: u64 = 30_000;
/// How often an event is delivered unless the subscription says otherwise.
const DELIVERIES_MAX: u32 = 10;
/// Deliveries that may wait unless the subscription says otherwise.
const PENDING_MAX: u32 = 256;
/// Deliveries of one answer unless the request says otherwise.
const RECEIVED: u32 = 50;

/// The stream of what happened.
#[derive(Debug, Clone)]
pub(crate) struct EventService(pub(crate) Shared);

impl EventService {
    async fn settle<T>(
        &self, request: &Request<T>, consumer: Consumer, receipts: &[proto::Receipt], verdict: Verdict,
    ) -> Result<Response<proto::SettleResponse>, Status> {
        let call = &admitted(request)?.call;
        let receipts: Vec<_> = receipts
            .iter()
            .map(|receipt| platform_dataplane::Receipt { sequence: receipt.sequence, attempt: receipt.attempt })
            .collect();
        let events = self.0.plane.event();
        let (settled, unknown) = events.settle(call, &consumer, &receipts, verdict).await.map_err(status)?;
        Ok(Response::new(proto::SettleResponse { settled, unknown }))
    }

    async fn put_topic(
        &self, call: &Call, name: &str, retention: Option<proto::Retention>, window_ms: Option<u64>, create: bool,
    ) -> Result<Response<proto::Topic>, Status> {
        let proto::Retention { age_ms, count, bytes } = retention.unwrap_or_default();
        let settings = TopicSettings { age_ms, count, bytes, window_ms: window_ms.unwrap_or(WINDOW_MS) };
        let topic = self.0.plane.event().put_topic(call, name, settings, create).await.map_err(status)?;
        Ok(Response::new(topic_out(topic)))
    }
}

#[tonic::async_trait]
impl Events for EventService {
    async fn create_topic(
        &self, request: Request<proto::CreateTopicRequest>,
    ) -> Result<Response<proto::Topic>, Status> {
        let proto::CreateTopicRequest { name, retention, window_ms } = request.get_ref();
        self.put_topic(&admitted(&request)?.call, name, *retention, *window_ms, true).await
    }

    async fn update_topic(
        &self, request: Request<proto::UpdateTopicRequest>,
    ) -> Result<Response<proto::Topic>, Status> {
        let proto::UpdateTopicRequest { name, retention, window_ms } = request.get_ref();
        self.put_topic(&admitted(&request)?.call, name, *retention, *window_ms, false).await
    }

    async fn get_topic(&self, request: Request<proto::GetTopicRequest>) -> Result<Response<proto::Topic>, Status> {
        let call = &admitted(&request)?.call;
        let topic = self.0.plane.event().topic(call, &request.get_ref().name).await.map_err(status)?;
        Ok(Response::new(topic_out(topic)))
    }

    async fn list_topics(
        &self, request: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ListTopicsRequest { prefix, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let events = self.0.plane.event();
        let topics = events.topics(call, prefix, page.after.as_deref(), page.limit).await.map_err(status)?;
        let next_page_token = page.next(topics.len(), topics.last().map(|topic| topic.name.as_str()));
        let topics = topics.into_iter().map(topic_out).collect();
        Ok(Response::new(proto::ListTopicsResponse { topics, next_page_token }))
    }

    async fn delete_topic(
        &self, request: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::DeleteTopicResponse>, Status> {
        let call = &admitted(&request)?.call;
        let name = &request.get_ref().name;
        self.0.plane.event().delete_topic(call, name).await.map_err(status)?;
        self.0.webhooks.forget(call, name, None).await.map_err(webhook_status)?;
        Ok(Response::new(proto::DeleteTopicResponse {}))
    }

    async fn publish(&self, request: Request<proto::PublishRequest>) -> Result<Response<proto::Published>, Status> {
        let call = admitted(&request)?.call.clone();
        let proto::PublishRequest { topic, event } = request.into_inner();
        let events = vec![event_in(event.unwrap_or_default())];
        let published = self.0.plane.event().publish(&call, &topic, events).await.map_err(status)?;
        let published = published.into_iter().next().map(published_out);
        published.map(Response::new).ok_or_else(|| Status::internal("nothing is known of the event"))
    }

    async fn publish_batch(
        &self, request: Request<proto::PublishBatchRequest>,
    ) -> Result<Response<proto::PublishBatchResponse>, Status> {
        let call = admitted(&request)?.call.clone();
        let proto::PublishBatchRequest { topic, events } = request.into_inner();
        let events = events.into_iter().map(event_in).collect();
        let published = self.0.plane.event().publish(&call, &topic, events).await.map_err(status)?;
        let published = published.into_iter().map(published_out).collect();
        Ok(Response::new(proto::PublishBatchResponse { published }))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Event>, Status> {
        let call = &admitted(&request)?.call;
        let proto::GetRequest { topic, sequence } = request.get_ref();
        let event = self.0.plane.event().get(call, topic, *sequence).await.map_err(status)?;
        Ok(Response::new(event_out(event)))
    }

    async fn read(&self, request: Request<proto::ReadRequest>) -> Result<Response<proto::ReadResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ReadRequest { topic, from, reverse, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let from = page.after.as_deref().map_or(Ok(*from), number)?;
        let events = self.0.plane.event();
        let (found, more) = events.read(call, topic, from, page.limit, *reverse).await.map_err(status)?;
        let next = found.last().map(|event| if *reverse { event.sequence - 1 } else { event.sequence + 1 });
        let next = next.filter(|next| more && *next > 0).map(|next| token(&next.to_string()));
        let events = found.into_iter().map(event_out).collect();
        Ok(Response::new(proto::ReadResponse { events, next_page_token: next.unwrap_or_default() }))
    }

    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::SearchRequest { topic, root, types, from, to, reverse, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let query = Query {
            topic: some(topic),
            root: some(root),
            types: types.clone(),
            from_ms: from.as_ref().map_or(0, milliseconds),
            to_ms: to.as_ref().map_or(u64::MAX, milliseconds),
            reverse: *reverse,
        };
        let events = self.0.plane.event();
        let (found, after) = events.find(call, &query, page.after.as_deref(), page.limit).await.map_err(status)?;
        Ok(Response::new(proto::SearchResponse {
            events: found.into_iter().map(event_out).collect(),
            next_page_token: after.as_deref().map(token).unwrap_or_default(),
        }))
    }

    async fn tree(&self, request: Request<proto::TreeRequest>) -> Result<Response<proto::TreeResponse>, Status> {
        let call = &admitted(&request)?.call;
        let tree = self.0.plane.event().tree(call, &request.get_ref().root).await.map_err(status)?;
        let node = |node: platform_dataplane::Node| proto::tree_response::Node {
            event: Some(event_out(node.event)),
            depth: node.depth,
        };
        Ok(Response::new(proto::TreeResponse { nodes: tree.nodes.into_iter().map(node).collect(), cut: tree.cut }))
    }

    type FollowStream = Answers<proto::Event>;

    async fn follow(&self, request: Request<proto::FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let admitted = admitted(&request)?;
        let proto::FollowRequest { topic, from, types } = request.get_ref();
        let events = self.0.plane.event().follow(&admitted.call, topic, *from, types.clone()).await.map_err(status)?;
        let events = events.map(|event| event.map(event_out).map_err(status));
        Ok(Response::new(self.0.guard(admitted, events)?))
    }

    async fn create_subscription(
        &self, request: Request<proto::CreateSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let call = &admitted(&request)?.call;
        let request = request.get_ref();
        let dead_letter = if request.dead_letter_topic.is_empty() {
            format!("{}.dead-letter", request.topic)
        } else {
            request.dead_letter_topic.clone()
        };
        let settings = SubscriptionSettings {
            types: request.types.clone(),
            fan_out: request.fan_out,
            ack_wait_ms: request.ack_wait_ms.unwrap_or(ACK_WAIT_MS),
            deliveries_max: request.deliveries_max.unwrap_or(DELIVERIES_MAX),
            dead_letter,
            pending_max: request.pending_max.unwrap_or(PENDING_MAX),
        };
        let (topic, name, start) = (&request.topic, &request.name, start_in(request.start.as_ref()));
        let events = self.0.plane.event();
        let made = events.create_subscription(call, topic, name, start, &settings).await.map_err(status)?;
        Ok(Response::new(subscription_out(made)))
    }

    async fn get_subscription(
        &self, request: Request<proto::GetSubscriptionRequest>,
    ) -> Result<Response<proto::Subscription>, Status> {
        let call = &admitted(&request)?.call;
        let proto::GetSubscriptionRequest { topic, name } = request.get_ref();
        let found = self.0.plane.event().subscription(call, topic, name).await.map_err(status)?;
        Ok(Response::new(subscription_out(found)))
    }

    async fn list_subscriptions(
        &self, request: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ListSubscriptionsRequest { topic, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let events = self.0.plane.event();
        let found = events.subscriptions(call, topic, page.after.as_deref(), page.limit).await.map_err(status)?;
        let next_page_token = page.next(found.len(), found.last().map(|found| found.name.as_str()));
        let subscriptions = found.into_iter().map(subscription_out).collect();
        Ok(Response::new(proto::ListSubscriptionsResponse { subscriptions, next_page_token }))
    }

    async fn delete_subscription(
        &self, request: Request<proto::DeleteSubscriptionRequest>,
    ) -> Result<Response<proto::DeleteSubscriptionResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::DeleteSubscriptionRequest { topic, name } = request.get_ref();
        self.0.plane.event().delete_subscription(call, topic, name).await.map_err(status)?;
        self.0.webhooks.forget(call, topic, Some(name)).await.map_err(webhook_status)?;
        Ok(Response::new(proto::DeleteSubscriptionResponse {}))
    }

    async fn seek(&self, request: Request<proto::SeekRequest>) -> Result<Response<proto::Subscription>, Status> {
        let call = &admitted(&request)?.call;
        let proto::SeekRequest { topic, name, start } = request.get_ref();
        let found = self.0.plane.event().seek(call, topic, name, start_in(start.as_ref())).await.map_err(status)?;
        Ok(Response::new(subscription_out(found)))
    }

    type SubscribeStream = Answers<proto::Delivery>;

    async fn subscribe(
        &self, request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let admitted = admitted(&request)?;
        let proto::SubscribeRequest { topic, name, consumer } = request.get_ref();
        let consumer = self::consumer(topic, name, consumer);
        let deliveries = self.0.plane.event().deliveries(&admitted.call, consumer).await.map_err(status)?;
        let deliveries = deliveries.flat_map(|deliveries| {
            stream::iter(match deliveries {
                Ok(deliveries) => deliveries.into_iter().map(|delivery| Ok(delivery_out(delivery))).collect(),
                Err(error) => vec![Err(status(error))],
            })
        });
        Ok(Response::new(self.0.guard(admitted, deliveries)?))
    }

    async fn receive(
        &self, request: Request<proto::ReceiveRequest>,
    ) -> Result<Response<proto::ReceiveResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ReceiveRequest { topic, name, consumer, limit, wait_ms } = request.get_ref();
        let limit = if *limit == 0 { RECEIVED } else { *limit };
        let (consumer, wait) = (self::consumer(topic, name, consumer), Duration::from_millis((*wait_ms).into()));
        let found = self.0.plane.event().receive(call, &consumer, limit, wait).await.map_err(status)?;
        Ok(Response::new(proto::ReceiveResponse { deliveries: found.into_iter().map(delivery_out).collect() }))
    }

    async fn ack(&self, request: Request<proto::AckRequest>) -> Result<Response<proto::SettleResponse>, Status> {
        let proto::AckRequest { topic, name, consumer, receipts } = request.get_ref();
        self.settle(&request, self::consumer(topic, name, consumer), receipts, Verdict::Ack).await
    }

    async fn nak(&self, request: Request<proto::NakRequest>) -> Result<Response<proto::SettleResponse>, Status> {
        let proto::NakRequest { topic, name, consumer, receipts, delay_ms } = request.get_ref();
        self.settle(&request, self::consumer(topic, name, consumer), receipts, Verdict::Nak(*delay_ms)).await
    }

    async fn extend(&self, request: Request<proto::ExtendRequest>) -> Result<Response<proto::SettleResponse>, Status> {
        let proto::ExtendRequest { topic, name, consumer, receipts } = request.get_ref();
        self.settle(&request, self::consumer(topic, name, consumer), receipts, Verdict::Extend).await
    }

    async fn reject(&self, request: Request<proto::RejectRequest>) -> Result<Response<proto::SettleResponse>, Status> {
        let proto::RejectRequest { topic, name, consumer, receipts, reason } = request.get_ref();
        let verdict = Verdict::Reject(reason.clone());
        self.settle(&request, self::consumer(topic, name, consumer), receipts, verdict).await
    }

    async fn create_webhook(
        &self, request: Request<proto::CreateWebhookRequest>,
    ) -> Result<Response<proto::CreateWebhookResponse>, Status> {
        let call = admitted(&request)?.call.clone();
        let mut request = request.into_inner();
        let (topic, name) = (std::mem::take(&mut request.topic), std::mem::take(&mut request.name));
        let created = self.0.webhooks.create(&call, &topic, &name, new_in(request)).await.map_err(webhook_status)?;
        Ok(Response::new(created_out(created)))
    }

    async fn get_webhook(
        &self, request: Request<proto::GetWebhookRequest>,
    ) -> Result<Response<proto::Webhook>, Status> {
        let call = &admitted(&request)?.call;
        let proto::GetWebhookRequest { topic, name } = request.get_ref();
        let found = self.0.webhooks.get(call, topic, name).await.map_err(webhook_status)?;
        Ok(Response::new(webhook_out(found)))
    }

    async fn list_webhooks(
        &self, request: Request<proto::ListWebhooksRequest>,
    ) -> Result<Response<proto::ListWebhooksResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ListWebhooksRequest { topic, limit, page_token } = request.get_ref();
        let page = Page::parse(*limit, page_token)?;
        let found = self.0.webhooks.list(call, topic, page.after.as_deref(), page.limit).await;
        let found = found.map_err(webhook_status)?;
        let next_page_token = page.next(found.len(), found.last().map(|found| found.subscription.as_str()));
        let webhooks = found.into_iter().map(webhook_out).collect();
        Ok(Response::new(proto::ListWebhooksResponse { webhooks, next_page_token }))
    }

    async fn pause_webhook(
        &self, request: Request<proto::PauseWebhookRequest>,
    ) -> Result<Response<proto::Webhook>, Status> {
        let call = &admitted(&request)?.call;
        let proto::PauseWebhookRequest { topic, name } = request.get_ref();
        let paused = self.0.webhooks.pause(call, topic, name, true).await.map_err(webhook_status)?;
        Ok(Response::new(webhook_out(paused)))
    }

    async fn resume_webhook(
        &self, request: Request<proto::ResumeWebhookRequest>,
    ) -> Result<Response<proto::Webhook>, Status> {
        let call = &admitted(&request)?.call;
        let proto::ResumeWebhookRequest { topic, name } = request.get_ref();
        let resumed = self.0.webhooks.pause(call, topic, name, false).await.map_err(webhook_status)?;
        Ok(Response::new(webhook_out(resumed)))
    }

    async fn delete_webhook(
        &self, request: Request<proto::DeleteWebhookRequest>,
    ) -> Result<Response<proto::DeleteWebhookResponse>, Status> {
        let call = &admitted(&request)?.call;
        let proto::DeleteWebhookRequest { topic, name } = request.get_ref();
        self.0.webhooks.delete(call, topic, name).await.map_err(webhook_status)?;
        Ok(Response::new(proto::DeleteWebhookResponse {}))
    }
}

fn consumer(topic: &str, subscription: &str, name: &str) -> Consumer {
    Consumer { topic: topic.to_owned(), subscription: subscription.to_owned(), name: name.to_owned() }
}

fn start_in(start: Option<&proto::Start>) -> Start {
    match start.and_then(|start| start.at.as_ref()) {
        Some(At::Beginning(true)) => Start::Beginning,
        Some(At::Sequence(sequence)) => Start::Sequence(*sequence),
        Some(At::Time(time)) => Start::Time(milliseconds(time)),
        Some(At::Beginning(false)) | None => Start::New,
    }
}

fn event_in(event: proto::NewEvent) -> NewEvent {
    let proto::NewEvent { id, r#type, origin, root, parent, content_type, metadata, data } = event;
    NewEvent { id, kind: r#type, origin, root, parent, content_type, metadata, data: data.into() }
}

fn event_out(event: event::Event) -> proto::Event {
    let event::Event { topic, sequence, time_ms, content, .. } = event;
    proto::Event {
        topic,
        sequence,
        time: Some(timestamp(time_ms)),
        id: content.id,
        r#type: content.type_,
        origin: content.origin,
        root: content.root,
        parent: content.parent.unwrap_or_default(),
        publisher: content.publisher.unwrap_or_default(),
        content_type: content.content_type,
        metadata: content.metadata.into_iter().collect(),
        data: content.data.into(),
    }
}

fn delivery_out(delivery: Delivery) -> proto::Delivery {
    let Delivery { event, attempt, due_ms } = delivery;
    proto::Delivery { event: Some(event_out(event)), attempt, due_time: Some(timestamp(due_ms)) }
}

fn published_out(outcome: Outcome) -> proto::Published {
    let Outcome { id, published } = outcome;
    match published {
        Ok(event::Published { sequence, time_ms, duplicate }) => {
            proto::Published { id, sequence, time: Some(timestamp(time_ms)), duplicate, dropped: String::new() }
        }
        Err(dropped) => proto::Published { id, dropped, ..proto::Published::default() },
    }
}

fn topic_out(topic: Topic) -> proto::Topic {
    let TopicSettings { age_ms, count, bytes, window_ms } = topic.settings;
    proto::Topic {
        name: topic.name,
        retention: Some(proto::Retention { age_ms, count, bytes }),
        window_ms,
        create_time: Some(timestamp(topic.created_ms)),
        first: topic.first,
        last: topic.last,
        bytes: topic.bytes,
    }
}

fn subscription_out(subscription: Subscription) -> proto::Subscription {
    let Subscription { topic, name, settings, created_ms, next, pending, missed, .. } = subscription;
    let SubscriptionSettings { types, fan_out, ack_wait_ms, deliveries_max, dead_letter, pending_max } = settings;
    proto::Subscription {
        topic,
        name,
        types,
        fan_out,
        ack_wait_ms,
        deliveries_max,
        dead_letter_topic: dead_letter,
        pending_max,
        create_time: Some(timestamp(created_ms)),
        next,
        pending,
        missed,
    }
}
