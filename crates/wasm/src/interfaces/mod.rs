//! The host's own interfaces, and what replaces upstream's in durable components.

pub(crate) mod config;
pub(crate) mod key_value;
pub(crate) mod refused;
pub(crate) mod replay;

/// Bindings to the interfaces of `wit/`.
#[allow(missing_docs, reason = "generated")]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "monoplane:host/host",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::interfaces::key_value::Bucket,
        },
        require_store_data_send: true,
    });
}
