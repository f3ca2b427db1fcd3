//! Rust types and host traits generated from `wit/`. Both sides of every interface use the same types.

wasmtime::component::bindgen!({
    path: ["../../wit/plugin", "../../wit/storage", "../../wit/kv", "../../wit/discovery", "../../wit/auth", "../../wit/router", "../../wit/config", "../../wit/sync", "../../wit/db", "../../wit/event", "../../wit/marketplace"],
    inline: "
        package platform:host@0.1.0;
        world host {
            import platform:plugin/context@0.1.0;
            import platform:plugin/log@0.1.0;
            import platform:plugin/lifecycle@0.1.0;
            import platform:plugin/handover@0.1.0;
            import platform:storage/types@0.1.0;
            import platform:storage/table@0.1.0;
            import platform:storage/journal@0.1.0;
            import platform:kv/types@0.1.0;
            import platform:kv/store@0.1.0;
            import platform:kv/takeover@0.1.0;
            import platform:discovery/types@0.1.0;
            import platform:discovery/registry@0.1.0;
            import platform:auth/types@0.1.0;
            import platform:auth/policy@0.1.0;
            import platform:router/types@0.1.0;
            import platform:router/load@0.1.0;
            import platform:router/policy@0.1.0;
            import platform:config/types@0.1.0;
            import platform:config/store@0.1.0;
            import platform:config/values@0.1.0;
            import platform:config/proposals@0.1.0;
            import platform:config/validator@0.1.0;
            import platform:config/source@0.1.0;
            import platform:sync/types@0.1.0;
            import platform:sync/lock@0.1.0;
            import platform:sync/locks@0.1.0;
            import platform:db/types@0.1.0;
            import platform:db/store@0.1.0;
            import platform:db/records@0.1.0;
            import platform:event/types@0.1.0;
            import platform:event/broker@0.1.0;
            import platform:event/topics@0.1.0;
            import platform:event/candidates@0.1.0;
            import platform:event/filter@0.1.0;
            import platform:marketplace/types@0.1.0;
            import platform:marketplace/index@0.1.0;
            import platform:marketplace/installer@0.1.0;
        }
    ",
    world: "platform:host/host",
    imports: {
        "platform:storage/table.get": async,
        "platform:storage/table.get-many": async,
        "platform:storage/table.commit": async,
        "platform:storage/table.commit-within": async,
        "platform:storage/table.used": async,
        "platform:storage/table.scan": async,
        "platform:storage/table.changes": async,
        "platform:storage/table.revision": async,
        "platform:storage/table.fences": async,
        "platform:storage/table.restore": async,
        "platform:storage/journal.append": async,
        "platform:storage/journal.read": async,
        "platform:storage/journal.bounds": async,
        "platform:storage/journal.trim": async,
        "platform:kv/store.get": async,
        "platform:kv/store.get-many": async,
        "platform:kv/store.put": async,
        "platform:kv/store.delete": async,
        "platform:kv/store.commit": async,
        "platform:kv/store.increment": async,
        "platform:kv/store.used": async,
        "platform:kv/store.scan": async,
        "platform:kv/store.changes": async,
        "platform:kv/store.revision": async,
        "platform:discovery/registry.register": async,
        "platform:discovery/registry.heartbeat": async,
        "platform:discovery/registry.deregister": async,
        "platform:discovery/registry.get": async,
        "platform:discovery/registry.list": async,
        "platform:discovery/registry.changes": async,
        "platform:discovery/registry.revision": async,
        "platform:config/values.get": async,
        "platform:db/records.declare": async,
        "platform:db/records.commit": async,
        "platform:db/records.get": async,
        "platform:db/records.find": async,
        "platform:event/topics.publish": async,
        "platform:event/topics.read": async,
        "platform:event/topics.receive": async,
        "platform:event/topics.settle": async,
        "platform:sync/locks.acquire": async,
        "platform:sync/locks.keep-alive": async,
        "platform:sync/locks.release": async,
        "platform:sync/locks.get": async,
        "platform:marketplace/index.search": async,
        "platform:marketplace/index.show": async,
        "platform:marketplace/installer.review": async,
        "platform:marketplace/installer.install": async,
    },
    with: {
        "platform:auth/types.request": crate::auth::Request,
        "platform:config/proposals.proposal": crate::config::Proposal,
        "platform:event/candidates.candidate": crate::event::Candidate,
    },
    additional_derives: [PartialEq],
    include_component_type: true,
});
