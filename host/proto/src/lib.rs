//! The platform's methods as Rust types: messages, clients and servers generated from `proto/`, and the descriptors they
//! came from.
//!
//! Knows nothing of how a method is answered. Invariant: a method exists here and in no other place; gRPC, HTTP/JSON,
//! reflection and the OpenAPI document all come from this one definition.

pub mod code;
mod codec;
pub mod json;

/// The encoded `google.protobuf.FileDescriptorSet` of every definition, with comments and HTTP annotations: what
/// reflection, transcoding and the OpenAPI document are made from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Metadata key, and HTTP header, that names the namespace of a call.
pub const NAMESPACE_HEADER: &str = "x-platform-namespace";

/// Metadata key, and HTTP header, with what the writes of a call are fenced with: `NAME:TOKEN`, the name percent-encoded.
pub const FENCING_HEADER: &str = "x-platform-fencing";

macro_rules! capability {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $name {
            /// Version 1.
            #[allow(
                missing_docs,
                missing_debug_implementations,
                unreachable_pub,
                clippy::all,
                clippy::too_many_lines,
                clippy::needless_pass_by_value,
                clippy::implicit_clone,
                clippy::use_self,
                clippy::semicolon_if_nothing_returned,
                clippy::uninlined_format_args,
                reason = "generated"
            )]
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

capability!(
    /// Values under keys.
    kv, "platform.kv.v1"
);
capability!(
    /// Which services run where.
    discovery, "platform.discovery.v1"
);
capability!(
    /// Documents with versions.
    config, "platform.config.v1"
);
capability!(
    /// Locks, semaphores and elections.
    sync, "platform.sync.v1"
);
capability!(
    /// Records in tables.
    db, "platform.db.v1"
);
capability!(
    /// The stream of what happened.
    event, "platform.event.v1"
);
capability!(
    /// May this caller do this?
    auth, "platform.auth.v1"
);
capability!(
    /// Which copy of a service should take this request?
    router, "platform.router.v1"
);
capability!(
    /// What is installed and what serves where.
    plugin, "platform.plugin.v1"
);
capability!(
    /// What is published here.
    marketplace, "platform.marketplace.v1"
);
capability!(
    /// The daemon itself.
    server, "platform.server.v1"
);

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    #[test]
    fn descriptors_keep_http_annotations_and_comments() {
        let pool = DescriptorPool::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let http = pool.get_extension_by_name("google.api.http").unwrap();
        let ours: Vec<_> = pool.services().filter(|service| service.package_name().starts_with("platform.")).collect();
        assert_eq!(ours.len(), 11);
        for method in ours.iter().flat_map(prost_reflect::ServiceDescriptor::methods) {
            assert!(method.options().has_extension(&http), "`{}` has no HTTP mapping", method.full_name());
        }
        let file = pool.get_file_by_name("platform/kv/v1/kv.proto").unwrap();
        let commented = |location: &prost_types::source_code_info::Location| location.leading_comments.is_some();
        assert!(file.file_descriptor_proto().source_code_info.as_ref().unwrap().location.iter().any(commented));
    }
}
