//! What the component may ask of its host, and how large it may be.

use crate::helpers::manifest;
use std::collections::BTreeSet;
use std::path::Path;
use wasmtime::{Engine, component::Component};
use wit_parser::Resolve;

/// The interfaces that `wit/world.wit` names, as `package/interface@version`.
fn in_world() -> BTreeSet<String> {
    let mut wit = Resolve::default();
    let (package, _) = wit.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).expect("wit resolves");
    let world = wit.select_world(&[package], Some("component")).expect("wit/world.wit has the world");
    // The export brings in interfaces of its own version; linking makes them those of the newest one, as it does here.
    wit.merge_world_imports_based_on_semver(world).expect("versions that fit");
    let world = &wit.worlds[world];
    world.imports.keys().chain(world.exports.keys()).map(|name| wit.name_world_key(name)).collect()
}

#[test]
fn the_component_imports_and_exports_what_the_world_names_and_nothing_else() {
    let engine = Engine::default();
    let component = Component::from_file(&engine, manifest().source).expect("the component: `make component`");
    let kind = component.component_type();
    let names = kind.imports(&engine).map(|(name, _)| name).chain(kind.exports(&engine).map(|(name, _)| name));
    let used: BTreeSet<String> = names.map(str::to_owned).collect();
    assert_eq!(used, in_world());
}

#[test]
fn the_component_has_at_most_300_kilobytes() {
    let size = std::fs::metadata(manifest().source).expect("the component: `make component`").len();
    assert!(size <= 300_000, "{size} bytes");
}
