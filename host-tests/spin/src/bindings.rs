//! The host's side of `wit/deps`: traits to implement and types to speak. What a component imports of an older version of an
//! interface is satisfied by the newest.

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
