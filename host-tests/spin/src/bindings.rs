//! The host's side of `wit/deps`: traits to implement and types to speak.

wasmtime::component::bindgen!({
    path: ["../../wit/deps/spin-postgres", "../../wit/deps/fermyon-spin"],
    inline: "
        package dob:host;
        world host {
            import spin:postgres/postgres@4.0.0;
            import fermyon:spin/variables@2.0.0;
        }
    ",
    imports: { default: async },
    with: { "spin:postgres/postgres.connection": deadpool_postgres::Object },
});
