//! The host's side of `wit/deps`: traits to implement, and types. The newest version of an interface also serves components that
//! import an older one.

wasmtime::component::bindgen!({
    path: ["../../wit/deps/spin-postgres-4.2.0", "../../wit/deps/fermyon-spin", "../../wit/deps/spin-variables"],
    inline: "
        package dob:host;
        world host {
            import spin:postgres/postgres@4.2.0;
            import fermyon:spin/variables@2.0.0;
            import spin:variables/variables@3.0.0;
        }
    ",
    imports: { default: async },
    with: { "spin:postgres/postgres.connection": crate::postgres::Connection },
});
