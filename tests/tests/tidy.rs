//! The house stays in order: floors, walls, sizes, and pages that tell the truth.

#![expect(clippy::expect_used, reason = "a test states what it relies on")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").into()
}

fn rust_files(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).expect("a folder of the workspace can be read") {
        let path = entry.expect("a folder's entry can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn every_rust_file() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    rust_files(&root(), &mut paths);
    paths.sort();
    let relative = |path: &Path| {
        path.strip_prefix(root()).expect("it was found below the root").display().to_string()
    };
    paths.iter().map(|p| (relative(p), fs::read_to_string(p).expect("UTF-8 source"))).collect()
}

/// Production lines: everything before a file's own tests.
fn production(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line))
}

/// The floor of a module of scheduler-core; a file imports from lower floors and its own.
fn floor(module: &str) -> Option<u32> {
    Some(match module {
        "words" => 0,
        "fleet" => 10,
        "capacity" => 15,
        "policies" => 20,
        "reconcile" | "explain" | "routes" | "meter" => 30,
        "controller" => 40,
        _ => return None,
    })
}

#[test]
fn the_floors_of_the_scheduler_core_import_downwards_only() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in every_rust_file() {
        let Some(inside) = path.strip_prefix("scheduler/core/src/") else { continue };
        let own = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(here) = floor(own) else { continue };
        seen += 1;
        for (number, line) in production(&text) {
            for part in line.split("crate::").skip(1) {
                let target: String =
                    part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if floor(&target).is_some_and(|there| there > here) {
                    wrong.push(format!("{path}:{number}: {own} imports {target}, a higher floor"));
                }
            }
        }
        if own == "policies" {
            wrong.extend(policies_import_each_other(&path, inside, &text));
        }
    }
    assert!(seen > 20, "the floors were not found: {seen} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn policies_import_each_other(path: &str, inside: &str, text: &str) -> Vec<String> {
    let own = inside.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs").to_owned();
    let foreign = |line: &str| {
        line.split("crate::policies::").skip(1).any(|rest| {
            let target: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            target != own
        })
    };
    production(text)
        .filter(|(_, line)| own != "mod" && foreign(line))
        .map(|(number, line)| format!("{path}:{number}: a policy imports a policy: {line}"))
        .collect()
}

#[test]
fn the_pure_crates_depend_on_nothing_that_can_touch_the_world() {
    let allowed =
        ["wharfage-shared", "wharfage-billing", "serde", "serde_json", "sha2", "thiserror"];
    for name in ["scheduler/core", "scheduler/billing", "agent/core", "shared"] {
        let text = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("a manifest is TOML");
        let dependencies = manifest["dependencies"].as_table().expect("a table");
        for dependency in dependencies.keys() {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name}/Cargo.toml: `{dependency}` is not on the list of a pure crate: {allowed:?}"
            );
        }
    }
}

#[test]
fn files_keep_pleasant_sizes() {
    let files = every_rust_file();
    let mut sizes: Vec<(usize, &str)> =
        files.iter().map(|(path, text)| (text.lines().count(), path.as_str())).collect();
    sizes.sort_unstable();
    let at = |share: usize| sizes[(sizes.len() - 1) * share / 100];
    println!(
        "{} files: median {}, nine in ten under {}, largest {} ({})",
        sizes.len(),
        at(50).0,
        at(90).0,
        at(100).0,
        at(100).1
    );
    let over: Vec<_> = sizes.iter().filter(|(lines, _)| *lines > 600).collect();
    assert!(over.is_empty(), "files over 600 lines: which room is missing? {over:?}");
}

#[test]
fn unsafe_code_lives_behind_its_doors_only() {
    for (path, text) in every_rust_file() {
        let doors = ["agent/sys/", "fakes/nvml/", "fakes/cuda/"];
        if doors.iter().any(|door| path.starts_with(door)) {
            continue;
        }
        let word = concat!("unsafe", " ");
        for (number, line) in production(&text) {
            let code = line.split("//").next().unwrap_or_default();
            assert!(!code.contains(&format!("{word}{{")), "{path}:{number}: {line}");
        }
    }
}

#[test]
fn sources_hold_no_leftovers() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("#[ig", "nore]"),
        concat!("#[al", "low("),
        concat!("#![al", "low("),
    ];
    let mut wrong = Vec::new();
    for (path, text) in every_rust_file() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
        if !text.trim_start().starts_with("//!") {
            wrong.push(format!("{path}: does not open with a sentence of purpose (//!)"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The pages for people: those at the top, in `docs/`, and the fakes' own.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("fakes/README.md")];
    for folder in [root(), root().join("docs")] {
        let entries = fs::read_dir(folder).expect("the folder can be read");
        let paths = entries.map(|entry| entry.expect("an entry can be read").path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages
}

/// Whether a quoted text is meant as a path from the top of the workspace.
fn is_path(quoted: &str) -> bool {
    let first = quoted.split('/').next().unwrap_or_default();
    quoted.contains('/')
        && !quoted.starts_with('/')
        && quoted.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
        && root().join(first).is_dir()
}

#[test]
fn every_path_and_link_of_a_page_leads_somewhere() {
    let mut missing: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page is UTF-8");
        let folder = page.parent().expect("a page lies in a folder");
        let quoted = text.split('`').skip(1).step_by(2).filter(|quoted| is_path(quoted));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let named = quoted.map(|path| (root().join(path), path));
        let linked = links.map(|(link, _)| (folder.join(link), link));
        for (path, name) in named.chain(linked.filter(|(_, link)| !link.contains("://"))) {
            seen += 1;
            if !path.exists() {
                missing.entry(page.clone()).or_default().push(name.to_owned());
            }
        }
    }
    assert!(seen > 40, "the paths were not found: {seen}");
    assert!(missing.is_empty(), "named but not there: {missing:?}");
}

#[test]
fn a_source_names_only_pages_that_its_reader_has() {
    let mut missing = Vec::new();
    for (path, text) in every_rust_file() {
        for (before, _) in text.match_indices(".md").map(|(at, _)| text.split_at(at)) {
            let starts = |c: char| !c.is_ascii_alphanumeric() && !"/_-".contains(c);
            let page = before.rsplit(starts).next().unwrap_or_default();
            if !page.is_empty() && !root().join(format!("{page}.md")).exists() {
                missing.push(format!("{path}: {page}.md"));
            }
        }
    }
    assert!(missing.is_empty(), "named but not there: {missing:?}");
}
