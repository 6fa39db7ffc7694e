//! The verbs that need no machine, as a user gives them: the program itself, on a home of its own.

#![allow(clippy::tests_outside_test_module, reason = "every function of an integration test is one")]
#![allow(clippy::unwrap_used, reason = "what fails in a test's helper fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A home, and the program on it.
struct Home(TempDir);

impl Home {
    /// On a file system that can have layers; none where none can be made.
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            integration::dev::test::skipped(test, "layers have owners and whiteouts: run it as root");
            return None;
        }
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cli-tests");
        fs::create_dir_all(&target).unwrap();
        Some(Self(TempDir::new_in(target).unwrap()))
    }

    /// An image with a program, `app:1`.
    fn with_image(test: &str) -> Option<Self> {
        let home = Self::new(test)?;
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(4);
        header.set_cksum();
        archive.append_data(&mut header, "bin/tool", &b"tool"[..]).unwrap();
        let path = home.0.path().join("root.tar");
        fs::write(&path, archive.into_inner().unwrap()).unwrap();
        assert_eq!(home.ok(&["import", path.to_str().unwrap(), "app:1"]), "docker.io/library/app:1\n");
        Some(home)
    }

    /// Exit code, stdout and stderr.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_msb"))
            .args(words)
            .env("MICROSANDBOX_HOME", self.0.path().join("home"))
            .env("MICROSANDBOX_IMAGE", "app:1")
            .env("DOCKER_CONFIG", self.0.path().join("docker"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {err}");
        out
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    /// The code, where it fails with words that hold `part`.
    fn fails(&self, words: &[&str], part: &str) -> i32 {
        let (code, out, err) = self.run(words);
        assert!(code != 0 && err.contains(part), "{words:?}: {code}, {out}{err}");
        code
    }
}

#[test]
fn versions_and_completions() {
    let Some(home) = Home::new("versions_and_completions") else { return };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(home.ok(&["version"]), format!("msb {version}\n"));
    assert_eq!(home.json(&["version", "--format", "json"])["version"], version);
    for shell in ["bash", "zsh", "fish"] {
        let script = home.ok(&["completion", shell]);
        assert!(["attach", "rename", "logout"].iter().all(|verb| script.contains(verb)), "{shell}");
    }
    home.fails(&["completion", "none"], "bash");
}

#[test]
fn volumes_are_made_listed_and_removed() {
    let Some(home) = Home::new("volumes_are_made_listed_and_removed") else { return };
    assert_eq!(home.ok(&["volume", "ls"]), "NAME\n");
    assert_eq!(home.ok(&["volume", "create", "data", "cache"]), "data\ncache\n");
    assert_eq!(home.ok(&["volume", "create", "data"]), "data\n", "as with Docker");
    assert_eq!(home.ok(&["volume", "ls"]), "NAME\ncache\ndata\n");
    assert_eq!(home.json(&["volume", "ls", "--format", "json"]), serde_json::json!(["cache", "data"]));
    home.fails(&["volume", "create", "../x"], "name");
    assert_eq!(home.ok(&["volume", "rm", "data"]), "data\n");
    assert_eq!(home.fails(&["volume", "rm", "data", "cache"], "no volume data"), 1);
    assert_eq!(home.ok(&["volume", "ls"]), "NAME\n");
}

#[test]
fn images_have_names_and_are_looked_at() {
    let Some(home) = Home::with_image("images_have_names_and_are_looked_at") else { return };
    home.ok(&["tag", "app:1", "team/app"]);
    assert_eq!(home.ok(&["images", "-q"]), "docker.io/library/app:1\ndocker.io/team/app:latest\n");
    let table = home.ok(&["image", "ls"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["IMAGE", "ID", "CREATED", "SIZE"]);
    assert!(lines[1][0] == "docker.io/library/app:1" && lines[1][1] == lines[2][1], "{table}");
    let one = home.json(&["image", "inspect", "app:1"]);
    assert_eq!(one[0]["names"], serde_json::json!(["docker.io/library/app:1", "docker.io/team/app:latest"]));
    assert_eq!(one, home.json(&["inspect", "--format", "json", "app:1"]), "an image where no sandbox is");
    home.fails(&["image", "inspect", "none"], "not here");
    home.fails(&["inspect", "none"], "There is no");
    home.fails(&["tag", "none", "x"], "not here");
    home.fails(&["tag", "app:1", "Bad Name"], "Bad Name");
    let archive = home.0.path().join("saved.tar");
    home.ok(&["save", "-o", archive.to_str().unwrap(), "team/app"]);
    assert_eq!(home.ok(&["rmi", "app:1", "team/app"]), "app:1\nteam/app\n");
    assert_eq!(home.ok(&["images", "-q"]), "");
    let loaded = home.json(&["load", "--format", "json", "-i", archive.to_str().unwrap()]);
    assert_eq!(loaded, serde_json::json!(["docker.io/team/app:latest"]));
    assert_eq!(home.ok(&["image", "rm", "team/app"]), "team/app\n");
    assert!(home.ok(&["prune"]).ends_with(" freed\n"));
    let blobs = home.0.path().join("home/images/blobs");
    let left: usize = walk(&blobs);
    assert_eq!(left, 0, "nothing needs a blob");
}

/// Files below it.
fn walk(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[test]
fn sandboxes_that_never_ran() {
    let Some(home) = Home::with_image("sandboxes_that_never_ran") else { return };
    let file = home.0.path().join("variables");
    fs::write(&file, "# one\nA=1\nB=two\n").unwrap();
    let directory = home.0.path().join("made");
    let (file, volume) = (file.to_str().unwrap(), format!("{}:/host:Z", directory.display()));
    #[rustfmt::skip]
    home.ok(&[
        "create", "--name", "one", "--env-file", file, "-e", "B=2", "--label", "tier=web", "-l", "bare", "--entrypoint", "tool",
        "--pull", "never", "-p", "8080:80", "-p", "[::1]:53:53/udp", "-v", &volume, "--tmpfs", "/run:size=1m",
        "--mount", "type=volume,source=data,target=/data,readonly", "--ulimit", "nofile=64", "--cap-drop", "all", "--init",
        "--hostname", "box", "--disk-size", "2g", "--shm-size", "1m", "--read-only", "--restart", "on-failure:2", "app:1", "-x",
    ]);
    assert!(directory.is_dir(), "as Docker makes it");
    let request = &home.json(&["inspect", "one"])[0]["request"];
    for (key, wanted) in [
        ("env", serde_json::json!(["A=1", "B=two", "B=2"])),
        ("labels", serde_json::json!({ "bare": "", "tier": "web" })),
        ("entrypoint", serde_json::json!(["tool"])),
        ("command", serde_json::json!(["-x"])),
        ("pull", serde_json::json!("never")),
        ("restart", serde_json::json!({ "on-failure": 2 })),
    ] {
        assert_eq!(request[key], wanted, "{key}");
    }
    assert_eq!(request["setup"]["disk"], 2_u64 << 30);
    assert_eq!(home.ok(&["port", "one"]), "80/tcp -> 127.0.0.1:8080\n53/udp -> [::1]:53\n");
    assert_eq!(home.ok(&["port", "one", "53/udp"]), "[::1]:53\n");
    home.fails(&["port", "one", "81"], "81/tcp");

    home.ok(&["create", "--name", "two", "--", "tool"]);
    assert_eq!(home.ok(&["ps"]), "NAME   NAMESPACE   IMAGE   COMMAND   CREATED   STATUS   PORTS\n");
    let table = home.ok(&["ps", "-a"]);
    let one = table.lines().nth(1).unwrap();
    assert!(
        one.starts_with("one    default     app:1") && one.ends_with("8080:80/tcp, [::1]:53:53/udp"),
        "{table}"
    );
    assert_eq!(home.ok(&["ps", "-aq", "--filter", "label=tier=web"]), "one\n");
    assert_eq!(home.ok(&["ps", "-q", "--filter", "status=created", "--filter", "name=tw"]), "two\n");
    assert_eq!(home.ok(&["ps", "-ql"]), "two\n");
    assert_eq!(home.ok(&["ps", "-qn", "2"]), "two\none\n");
    home.fails(&["ps", "--filter", "color=red"], "ancestor");

    home.ok(&["rename", "two", "three"]);
    assert_eq!(home.ok(&["ps", "-aq"]), "one\nthree\n");
    home.fails(&["rename", "three", "one"], "already");
    assert_eq!(home.ok(&["wait", "three"]), "0\n");
    for verb in ["attach", "top"] {
        assert_eq!(home.fails(&[verb, "three"], "not running"), 125);
    }
    assert_eq!(home.fails(&["kill", "three"], "not running"), 1);
    home.fails(&["kill", "-s", "NOTHING", "three"], "no such signal");
    assert_eq!(home.fails(&["restart", "none"], "no sandbox"), 1);
    assert_eq!(home.ok(&["logs", "--since", "10m", "three"]), "");
    assert_eq!(home.ok(&["rm", "one", "three"]), "one\nthree\n");
}

#[test]
fn files_go_into_a_sandbox_that_rests_and_its_volumes_and_out_of_them() {
    let test = "files_go_into_a_sandbox_that_rests_and_its_volumes_and_out_of_them";
    let Some(home) = Home::with_image(test) else { return };
    let path = |name: &str| home.0.path().join(name).display().to_string();
    for name in ["tree/sub", "theirs"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    fs::write(path("tree/sub/file"), "ours").unwrap();
    fs::write(path("theirs/file"), "theirs").unwrap();
    let read_only = [format!("{}:/host:ro", path("theirs")), format!("{}:/opt/one:ro", path("theirs/file"))];
    home.ok(&[
        "create",
        "--name",
        "s",
        "-v",
        "data:/deep/data",
        "-v",
        &read_only[0],
        "-v",
        &read_only[1],
        "app:1",
        "tool",
    ]);
    let (code, _, err) = home.run(&["cp", &path("tree"), "s:/deep/data"]);
    if err.contains("SYS_ADMIN") {
        return integration::dev::test::skipped(test, "no root can be mounted here: it needs SYS_ADMIN");
    }
    assert_eq!(code, 0, "{err}");
    let volume = home.0.path().join("home/volumes/data");
    assert_eq!(fs::read_to_string(volume.join("tree/sub/file")).unwrap(), "ours");
    // As another sandbox of the volume may leave it: it leads to what this one has there, and nowhere else.
    std::os::unix::fs::symlink(path("theirs"), volume.join("out")).unwrap();
    home.fails(&["cp", &path("tree"), "s:/deep/data/out/new"], "can't be copied");
    fs::remove_file(volume.join("out")).unwrap();
    std::os::unix::fs::symlink("/bin", volume.join("out")).unwrap();
    home.ok(&["cp", &path("tree"), "s:/deep/data/out"]);
    assert!(!Path::new("/bin/tree").exists(), "it is the sandbox's /bin");
    home.ok(&["cp", "s:/bin/tree", &path("of-bin")]);
    home.ok(&["cp", "s:/deep/data", &path("of-volume")]);
    for of in ["of-bin/sub/file", "of-volume/tree/sub/file"] {
        assert_eq!(fs::read_to_string(path(of)).unwrap(), "ours", "{of}");
    }
    assert_eq!(fs::read_link(path("of-volume/out")).unwrap(), Path::new("/bin"), "a link is a link");
    // A file that is mounted can't be replaced, as with Docker.
    for (to, cause) in [("s:/host", "EROFS"), ("s:/host/file", "EROFS"), ("s:/opt/one", "EBUSY")] {
        home.fails(&["cp", &path("tree/sub/file"), to], cause);
    }
    home.ok(&["cp", "s:/", &path("all")]);
    for (of, text) in [
        ("host/file", "theirs"),
        ("opt/one", "theirs"),
        ("deep/data/tree/sub/file", "ours"),
        ("bin/tool", "tool"),
    ] {
        assert_eq!(fs::read_to_string(path(&format!("all/{of}"))).unwrap(), text, "{of}");
    }
    assert_eq!(fs::read_to_string(path("theirs/file")).unwrap(), "theirs");
    home.ok(&["rm", "s"]);
    assert!(volume.join("tree").exists(), "it is not the sandbox's own");
}

#[test]
fn words_that_make_no_sense_say_so() {
    let Some(home) = Home::with_image("words_that_make_no_sense_say_so") else { return };
    home.fails(&["run", "echo a", "b"], "\"echo a\" is no image's name");
    home.fails(&["run", "--pull", "never", "nothing"], "To run it there give `-- nothing`");
    home.fails(&["run", "--restart", "always", "app:1"], "give -d");
    home.fails(&["run", "-d", "--rm", "--restart", "always", "app:1"], "--rm");
    home.fails(&["run", "--mount", "type=bind,source=/none,target=/x", "app:1", "tool"], "make it first");
    for (flag, value, part) in [
        ("--ulimit", "files=1", "nofile"),
        ("--cap-add", "NONE", "capabilities(7)"),
        ("--tmpfs", "run", "/run:size=64m"),
        ("--hostname", "a b", "letters"),
        ("--storage-opt", "inodes=1", "size=SIZE"),
        ("--restart", "sometimes", "unless-stopped"),
        ("--disk-size", "big", "size"),
    ] {
        home.fails(&["run", flag, value, "app:1"], part);
    }
    home.fails(&["create", "-v", "/d:/x:rx", "app:1", "tool"], "is no volume");
    assert_eq!(home.ok(&["ps", "-aq"]), "");
    home.fails(&["login", "-u", "me", "localhost:1"], "--password-stdin");
    assert!(home.ok(&["logout", "localhost:1"]).starts_with("Nothing"));
}

/// Docker asks every half a minute, and no image is to be looked for then.
#[test]
fn health_is_asked_for_without_a_home() {
    let Some(home) = Home::new("health_is_asked_for_without_a_home") else { return };
    home.fails(&["server", "health", "--port", "1"], "Nobody serves on 127.0.0.1:1");
    assert!(!home.0.path().join("home").exists());
    assert!(home.ok(&["server", "keygen"]).ends_with("Namespace: *\n"));
    assert!(home.ok(&["--namespace", "team", "server", "keygen"]).ends_with("Namespace: team\n"));
    let key = home.json(&["--namespace", "team", "server", "keygen", "--expire", "1h", "--format", "json"]);
    let left = key["expires"].as_u64().unwrap() - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(key["token"].as_str().unwrap().starts_with("msb_") && (3590..=3600).contains(&left), "{key}");
    assert_eq!(key["namespace"], "team");
    home.fails(&["--namespace", "*", "server", "stop"], "for keys alone");
}
