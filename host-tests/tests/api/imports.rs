//! What the component may ask of its host, and how large it may be.

use crate::helpers::manifest;
use std::collections::BTreeSet;
use std::path::Path;
use wasmtime::{Engine, component::Component};
use wit_parser::UnresolvedPackageGroup;

/// The interfaces that `wit/world.wit` names, as `package/interface@version`.
fn in_world() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/world.wit");
    let group = UnresolvedPackageGroup::parse_file(&path).expect("wit/world.wit parses");
    let name = |(package, interfaces): (&wit_parser::PackageName, Vec<String>)| {
        let version = package.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
        let (namespace, name) = (package.namespace.clone(), package.name.clone());
        interfaces.into_iter().map(move |interface| format!("{namespace}:{name}/{interface}{version}"))
    };
    group
        .main
        .foreign_deps
        .iter()
        .flat_map(|(package, interfaces)| name((package, interfaces.keys().cloned().collect())))
        .collect()
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
