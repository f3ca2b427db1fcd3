//! Bindings generated from `wit/`, one module for each part that a component may have. It owns the mapping from WIT to
//! Rust types and nothing else; authors never name this module, the export macro does.
//!
//! Each module describes only its own imports and exports, so a component carries the parts that it exports or calls.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unsafe_code,
    unused,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated code"
)]

/// What every plugin is: settings and self-test out, context and log in. Its section says that the component exports
/// `lifecycle`, so every component made with this crate does; the export itself comes from [`stateful`].
pub mod plugin {
    wit_bindgen::generate!({
        path: ["../../wit/plugin"],
        inline: "package platform:sdk@0.1.0; world sdk-plugin { include platform:plugin/plugin@0.1.0; }",
        generate_all,
    });
}

/// A plugin that hands state over to its successor; without `handover`, what every plugin exports. One module makes
/// both, because generated macros share one name space and `handover` uses a type of `lifecycle`.
pub mod stateful {
    wit_bindgen::generate!({
        path: ["../../wit/plugin"],
        inline: "package platform:sdk@0.1.0;
            world sdk-stateful {
                export platform:plugin/lifecycle@0.1.0;
                export platform:plugin/handover@0.1.0;
            }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
    });
    pub use exports::platform::plugin::lifecycle::__export_platform_plugin_lifecycle_0_1_0_cabi as export_lifecycle;
}

/// Slot `auth.policy`.
pub mod auth {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/auth"],
        inline: "package platform:sdk@0.1.0;
            world sdk-auth { import platform:auth/types@0.1.0; export platform:auth/policy@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `router.policy`.
pub mod router {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/router"],
        inline: "package platform:sdk@0.1.0;
            world sdk-router { import platform:router/load@0.1.0; export platform:router/policy@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `kv.store`.
pub mod kv {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/kv"],
        inline: "package platform:sdk@0.1.0; world sdk-kv { export platform:kv/store@0.1.0; export platform:kv/takeover@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `discovery.registry`.
pub mod discovery {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/discovery"],
        inline: "package platform:sdk@0.1.0; world sdk-discovery { export platform:discovery/registry@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `config.store`.
pub mod config_store {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/config"],
        inline: "package platform:sdk@0.1.0; world sdk-config-store { export platform:config/store@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `config.source`.
pub mod config_source {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/config"],
        inline: "package platform:sdk@0.1.0; world sdk-config-source { export platform:config/source@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `sync.lock`.
pub mod sync {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/sync"],
        inline: "package platform:sdk@0.1.0; world sdk-sync { export platform:sync/lock@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `db.store`.
pub mod db {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/db"],
        inline: "package platform:sdk@0.1.0; world sdk-db { export platform:db/store@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `config.validator`.
pub mod config_validator {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/config"],
        inline: "package platform:sdk@0.1.0;
            world sdk-config-validator {
                import platform:config/proposals@0.1.0;
                export platform:config/validator@0.1.0;
            }",
        with: { "platform:config/types@0.1.0": crate::bindings::config_store::platform::config::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `event.broker`.
pub mod event_broker {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/event"],
        inline: "package platform:sdk@0.1.0; world sdk-event-broker { export platform:event/broker@0.1.0; }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Slot `event.filter`.
pub mod event_filter {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/event"],
        inline: "package platform:sdk@0.1.0;
            world sdk-event-filter {
                import platform:event/candidates@0.1.0;
                export platform:event/filter@0.1.0;
            }",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        additional_derives: [PartialEq],
    });
}

/// Tables and journals, for plugins with the grant `storage`. Writes borrow what they write: values may be megabytes.
pub mod storage {
    wit_bindgen::generate!({
        path: ["../../wit/storage"],
        inline: "package platform:sdk@0.1.0; world sdk-storage { include platform:storage/imports@0.1.0; }",
        generate_all,
        ownership: Borrowing { duplicate_if_necessary: false },
        additional_derives: [PartialEq],
    });
}

/// Other capabilities, for plugins with the grants `kv`, `discovery`, `config`, `db`, `event` and `sync`. Values are those of the slots' modules.
pub mod client {
    wit_bindgen::generate!({
        path: ["../../wit/plugin", "../../wit/kv", "../../wit/discovery", "../../wit/config", "../../wit/db", "../../wit/event", "../../wit/sync"],
        inline: "package platform:sdk@0.1.0;
            world sdk-client {
                import platform:kv/store@0.1.0;
                import platform:discovery/registry@0.1.0;
                import platform:config/values@0.1.0;
                import platform:db/records@0.1.0;
                import platform:event/topics@0.1.0;
                import platform:sync/locks@0.1.0;
            }",
        with: {
            "platform:kv/types@0.1.0": crate::bindings::kv::platform::kv::types,
            "platform:kv/store@0.1.0": generate,
            "platform:discovery/types@0.1.0": crate::bindings::discovery::platform::discovery::types,
            "platform:discovery/registry@0.1.0": generate,
            "platform:config/types@0.1.0": crate::bindings::config_store::platform::config::types,
            "platform:config/values@0.1.0": generate,
            "platform:db/types@0.1.0": crate::bindings::db::platform::db::types,
            "platform:db/records@0.1.0": generate,
            "platform:event/types@0.1.0": crate::bindings::event_broker::platform::event::types,
            "platform:event/topics@0.1.0": generate,
            "platform:sync/types@0.1.0": crate::bindings::sync::platform::sync::types,
            "platform:sync/locks@0.1.0": generate,
        },
        additional_derives: [PartialEq],
    });
}

/// TLS over streams, for plugins with the grant `network:HOST:PORT`. Streams are those of `wasip2`.
#[cfg(feature = "net")]
pub mod tls {
    wit_bindgen::generate!({
        path: ["wit/io.wit", "wit/tls.wit"],
        inline: "package platform:sdk@0.1.0; world sdk-tls { import wasi:tls/types@0.2.0-draft; }",
        with: {
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
            "wasi:tls/types@0.2.0-draft": generate,
        },
    });
}

/// Slot `web.page`: what WASI's own crate has, under the shape that the export macro knows.
#[cfg(feature = "web")]
pub mod web {
    pub use wasip2;

    #[doc(hidden)]
    #[macro_export]
    macro_rules! __export_web {
        ($adapter:ident with_types_in $($path:tt)*) => {
            $crate::bindings::web::wasip2::http::proxy::export!($adapter);
        };
    }
    pub use __export_web as export;
}

/// The marketplace, for pages with the grant `marketplace`.
#[cfg(feature = "web")]
pub mod marketplace {
    wit_bindgen::generate!({
        path: ["../../wit/marketplace"],
        inline: "package platform:sdk@0.1.0; world sdk-marketplace { include platform:marketplace/imports@0.1.0; }",
        generate_all,
        additional_derives: [PartialEq],
    });
}
