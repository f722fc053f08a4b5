//! The component's imports, and its size.

use dob_spin::{Build, Manifest};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use wasmtime::{Config, Engine, component::Component};
use wit_parser::Resolve;

/// The interfaces that `wit/world.wit` names, as `package/interface@version`.
fn in_world(world: &str) -> BTreeSet<String> {
    let mut wit = Resolve::default();
    let (package, _) = wit.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).expect("wit resolves");
    let world = wit.select_world(&[package], Some(world)).expect("wit/world.wit has the world");
    // The export adds interfaces of its own version. Linking replaces them by the newest version, and so does this.
    wit.merge_world_imports_based_on_semver(world).expect("versions that fit");
    let world = &wit.worlds[world];
    world.imports.keys().chain(world.exports.keys()).map(|name| wit.name_world_key(name)).collect()
}

/// The component of a build.
fn built(build: Build) -> PathBuf {
    Manifest::read(&build.manifest()).expect("a manifest").source
}

#[test]
fn the_component_imports_and_exports_what_the_world_names_and_nothing_else() {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config).unwrap();
    for (build, world) in [(Build::Wasi02, "wasi-p2"), (Build::Wasi03, "wasi-p3")] {
        let component = Component::from_file(&engine, built(build)).expect("the component: `make component`");
        let kind = component.component_type();
        let names = kind.imports(&engine).map(|(name, _)| name).chain(kind.exports(&engine).map(|(name, _)| name));
        let used: BTreeSet<String> = names.map(str::to_owned).collect();
        assert_eq!(used, in_world(world), "{build:?}");
    }
}

#[test]
fn a_component_is_small() {
    for (build, most) in [(Build::Wasi02, 300_000), (Build::Wasi03, 400_000)] {
        let size = std::fs::metadata(built(build)).expect("the component: `make component`").len();
        assert!(size <= most, "{build:?}: {size} bytes");
    }
}

#[test]
fn the_manifests_of_both_builds_differ_only_in_the_component() {
    let manifest = |build: Build| std::fs::read_to_string(build.manifest()).expect("a manifest");
    let other = manifest(Build::Wasi02)
        .replace("dob_api_wasi_p2", "dob_api_wasi_p3")
        .replace("dob-api-wasi-p2", "dob-api-wasi-p3");
    assert_eq!(manifest(Build::Wasi03), other);
}
