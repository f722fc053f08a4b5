//! The cluster's programs, built once from Go modules and cached. `parts/` has a go.mod for each, which pins its version.

use anyhow::{Context, Result, ensure};
use dob_support::{Process, cmd, end_within, project_file, read_within};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CACHE: &str = "/var/cache/dob-api";
const SOURCES: &str = "host-tests/cluster/parts";
/// Builds the collector from its manifest.
const BUILD_COLLECTOR: &str = "scripts/build-collector";
/// Raise this when the build below changes, so that cached programs are rebuilt.
const RECIPE: u32 = 1;
/// How long Go may take to answer a question about a module.
const QUESTION_DEADLINE: Duration = Duration::from_secs(300);
/// How long a build may take: several times what it took on two processors.
const BUILT_WITHIN: Duration = Duration::from_secs(3600);
/// How often a running build reports its progress.
const PROGRESS: Duration = Duration::from_secs(20);

/// The programs that one go.mod builds.
struct Part {
    /// Its folder.
    name: &'static str,
    /// The module that defines its version.
    module: &'static str,
    /// About how many minutes it takes to build on two processors.
    minutes: u32,
}

const KUBERNETES: Part = Part { name: "kubernetes", module: "k8s.io/kubernetes", minutes: 6 };
const NEEDED: [Part; 4] = [
    Part { name: "crane", module: "github.com/google/go-containerregistry", minutes: 1 },
    Part { name: "containerd", module: "github.com/containerd/containerd/v2", minutes: 2 },
    Part { name: "spin-operator", module: "github.com/spinkube/spin-operator", minutes: 3 },
    KUBERNETES,
];
const COLLECTOR: Part = Part { name: "otel-collector", module: "go.opentelemetry.io/collector/otelcol", minutes: 3 };
const ADDONS: [Part; 6] = [
    COLLECTOR,
    Part { name: "descheduler", module: "sigs.k8s.io/descheduler", minutes: 3 },
    Part { name: "kube-router", module: "github.com/cloudnativelabs/kube-router/v2", minutes: 2 },
    Part { name: "coredns", module: "github.com/coredns/coredns", minutes: 3 },
    Part { name: "metrics-server", module: "sigs.k8s.io/metrics-server", minutes: 4 },
    Part { name: "external-secrets", module: "github.com/external-secrets/external-secrets", minutes: 5 },
];

/// The built programs.
#[derive(Clone)]
pub struct Parts {
    /// Their directories, in the order of PATH.
    directories: Vec<PathBuf>,
    /// The version of Kubernetes, with a leading `v`.
    pub kubernetes: String,
}

impl Parts {
    /// Builds what is missing. The first build needs about 25 minutes, and the network.
    pub fn prepare(with_addons: bool) -> Result<Self> {
        let addons: &[Part] = if with_addons { &ADDONS } else { &[] };
        let mut directories = Vec::new();
        for part in NEEDED.iter().chain(addons) {
            let directory = part.directory()?;
            if !directory.exists() {
                part.make(&directory)?;
            }
            directories.push(directory);
        }
        Ok(Self { directories, kubernetes: KUBERNETES.version()? })
    }

    /// A program, by its name.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let found =
            self.directories.iter().map(|directory| directory.join("bin").join(name)).find(|path| path.exists());
        found.with_context(|| format!("no part of the cluster has a program {name}"))
    }

    /// A file or folder of a part's sources.
    pub(crate) fn source(&self, path: &str) -> Result<PathBuf> {
        let found = self.directories.iter().map(|directory| directory.join(path)).find(|path| path.exists());
        found.with_context(|| format!("no part of the cluster has {path}"))
    }

    /// PATH with the parts first.
    pub fn path(&self) -> String {
        let mut path: Vec<String> =
            self.directories.iter().map(|directory| directory.join("bin").display().to_string()).collect();
        path.extend(std::env::var("PATH"));
        path.join(":")
    }
}

impl Part {
    fn sources(&self) -> PathBuf {
        project_file(SOURCES).join(self.name)
    }

    /// Its directory in the cache, whose name depends on its sources.
    fn directory(&self) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        let read =
            |file| fs::read(self.sources().join(file)).with_context(|| format!("{SOURCES}/{}/{file}", self.name));
        (RECIPE, read("go.mod")?, read("go.sum")?).hash(&mut hasher);
        if self.name == COLLECTOR.name {
            (read("manifest.yaml")?, fs::read(project_file(BUILD_COLLECTOR))?).hash(&mut hasher);
        }
        Ok(Path::new(CACHE).join(format!("part-{}-{:016x}", self.name, hasher.finish())))
    }

    /// The version that its go.mod names.
    fn version(&self) -> Result<String> {
        let go_mod = fs::read_to_string(self.sources().join("go.mod"))?;
        let version = |line: &str| {
            let mut words = line.split_whitespace().filter(|word| *word != "require");
            let (module, version) = (words.next()?, words.next()?);
            (module == self.module && version.starts_with('v')).then(|| version.to_owned())
        };
        let found = go_mod.lines().find_map(version);
        found.with_context(|| format!("{SOURCES}/{}/go.mod names no version of {}", self.name, self.module))
    }

    fn make(&self, directory: &Path) -> Result<()> {
        ensure!(
            cmd!("go", "version").stdout_null().stderr_null().run().is_ok(),
            "Go is missing: https://go.dev/doc/install"
        );
        remove_older(self.name)?;
        println!("Building {} {} (about {} min, once) ...", self.name, self.version()?, self.minutes);
        let unfinished = directory.with_extension("unfinished");
        fs::create_dir_all(unfinished.join("bin"))?;
        self.build(&unfinished.join("bin"))?;
        self.keep_sources(&unfinished)?;
        Ok(fs::rename(&unfinished, directory)?)
    }

    fn build(&self, bin: &Path) -> Result<()> {
        let mut build = self.command(bin)?;
        let mut build = Process::spawn(build.stdin(Stdio::null()).stderr(Stdio::piped()), "install Go")?;
        let output = build.0.stderr.take().context("piped")?;
        let words = std::thread::spawn(move || show_progress(output));
        let ended = end_within(BUILT_WITHIN, &format!("the build of {}", self.name), &mut build.0)?;
        let words = words.join().unwrap_or_default();
        ensure!(ended.success(), "{} can't be built: {words}", self.name);
        // The operator's main package is called `cmd`.
        if bin.join("cmd").exists() {
            fs::rename(bin.join("cmd"), bin.join(self.name))?;
        }
        Ok(())
    }

    /// The build. The collector's sources are written by a program of its own.
    fn command(&self, bin: &Path) -> Result<Command> {
        if self.name == COLLECTOR.name {
            let mut script = Command::new(project_file(BUILD_COLLECTOR));
            script.arg(bin.join(self.name));
            return Ok(script);
        }
        let mut go = Command::new("go");
        go.args(["build", "-v", "-trimpath", "-ldflags", &self.linker_flags()?, "-o"]).arg(bin).arg("tool");
        go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -buildvcs=false").current_dir(self.sources());
        Ok(go)
    }

    /// Flags that set the version which Kubernetes' programs report.
    fn linker_flags(&self) -> Result<String> {
        if self.name != KUBERNETES.name {
            return Ok("-s -w".to_owned());
        }
        let version = self.version()?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let named = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
            format!("-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
        });
        Ok(format!("-s -w {}", named.join(" ")))
    }

    /// Resource definitions and roles come with the sources.
    fn keep_sources(&self, directory: &Path) -> Result<()> {
        let list = cmd!("go", "list", "-m", "-f", "{{.Dir}}", self.module).dir(self.sources());
        let config = Path::new(&read_within(QUESTION_DEADLINE, &list)?).join("config");
        if config.exists() {
            read_within(QUESTION_DEADLINE, &cmd!("cp", "--recursive", config, directory))?;
        }
        Ok(())
    }
}

/// Reports now and then how many packages are compiled. Returns the last lines, which say why a build failed.
fn show_progress(output: impl std::io::Read) -> String {
    let (mut last, mut packages, mut said) = (Vec::new(), 0, Instant::now());
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        packages += 1;
        if said.elapsed() > PROGRESS {
            println!("  {packages} packages");
            said = Instant::now();
        }
        if last.len() == 5 {
            last.remove(0);
        }
        last.push(line);
    }
    last.join("; ")
}

/// Removes earlier versions of a part, and an unfinished one.
fn remove_older(name: &str) -> Result<()> {
    for entry in fs::read_dir(CACHE).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("part-{name}-")) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_names_its_version() {
        for part in NEEDED.iter().chain(&ADDONS) {
            let version = part.version().unwrap();
            assert!(version.split('.').count() == 3, "{} {version}", part.name);
        }
        let unknown = Part { name: "crane", module: "example.org/unknown", minutes: 0 };
        assert!(unknown.version().unwrap_err().to_string().ends_with("names no version of example.org/unknown"));
    }
}
