//! Images from registries that are started here: Debian's `docker-registry`, on loopback, and one of our own that misbehaves.

#![allow(clippy::tests_outside_test_module, reason = "every function of an integration test is one")]
#![allow(missing_docs, reason = "a test's functions are named for what they show")]
#![allow(clippy::unwrap_used, reason = "what fails in a test's helper fails the test")]

mod content;
mod debian;
mod fake;
mod served;
mod tokens;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;

use msb::home::Home;
use msb::image::{Credentials, Event, ImageError, Images, Proxies, PullError, Registries, Stage};
use msb::sandbox::Pull;
use tempfile::TempDir;

use content::Content;
use debian::Debian;
use fake::{Answer, Fake};
use tokens::{Tokens, openssl};

/// A home of its own, on a file system that can have layers; none where none can be made.
fn images(test: &str) -> Option<(TempDir, Images)> {
    if !rustix::process::geteuid().is_root() {
        integration::dev::test::skipped(test, "layers have owners and whiteouts: run it as root");
        return None;
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image-tests");
    fs::create_dir_all(&target).unwrap();
    let directory = TempDir::new_in(target).unwrap();
    let images = Images::open(&Home::at(directory.path().join("home")).unwrap()).unwrap();
    Some((directory, images))
}

/// The whole chain of an error.
fn said(error: &ImageError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn an_image_is_pulled_once_and_used_without_a_network() {
    let Some((_keep, images)) = images("an_image_is_pulled_once_and_used_without_a_network") else { return };
    let registry = Debian::start(false);
    let first = Content::new("first", 3);
    registry.push("team/app", "1", &first);
    let name = format!("{}/team/app:1", registry.address);
    let plain = Registries::default();
    let error = images.get(&name, Pull::Never, &plain, &()).unwrap_err();
    assert!(matches!(error, ImageError::NotHere { .. }), "{error}");
    let stages = Mutex::new(Vec::new());
    let progress = |event: Event<'_>| {
        if let Event::Layer { stage, .. } = event {
            stages.lock().unwrap().push(stage);
        }
    };
    let image = images.get(&name, Pull::IfMissing, &plain, &progress).unwrap();
    assert_eq!(image.reference, name);
    assert_eq!(image.layers.len(), 3);
    assert_eq!(fs::read_to_string(image.layers[2].join("layer")).unwrap(), "first 2");
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_deref(), Some(&["first".to_owned()][..]));
    let stages = stages.into_inner().unwrap();
    for stage in [Stage::Downloaded, Stage::Unpacked] {
        assert_eq!(stages.iter().filter(|other| **other == stage).count(), 3, "{stages:?}");
    }
    // By the digest of the index, which is what Docker shows.
    let upstream = images.inspect(&name).unwrap().summary.upstream.unwrap();
    assert_eq!(upstream, first.index_digest());
    let by_digest = format!("{}/team/app@{upstream}", registry.address);
    images.get(&by_digest, Pull::Never, &plain, &()).unwrap();
    // The tag moves: who has it keeps it, who asks gets the new one, of which two layers are here.
    registry.push("team/app", "1", &Content::new("first", 4));
    assert_eq!(images.get(&name, Pull::IfMissing, &plain, &()).unwrap().digest, image.digest);
    let newer = images.get(&name, Pull::Always, &plain, &()).unwrap();
    assert_ne!(newer.digest, image.digest);
    assert_eq!(newer.layers[..3], image.layers);
    for missing in ["team/app:2", "team/other:1"] {
        let error = images.pull(&format!("{}/{missing}", registry.address), &plain, &()).unwrap_err();
        assert!(matches!(error, ImageError::Pull(PullError::NotFound { .. })), "{}", said(&error));
    }
    drop(registry);
    assert_eq!(images.get(&name, Pull::IfMissing, &plain, &()).unwrap().layers, newer.layers);
    let error = images.get(&name, Pull::Always, &plain, &()).unwrap_err();
    assert!(matches!(error, ImageError::Older { .. }), "{}", said(&error));
}

#[test]
fn a_registry_that_wants_a_password() {
    let Some((keep, images)) = images("a_registry_that_wants_a_password") else { return };
    let registry = Debian::start(true);
    registry.push("private/app", "latest", &Content::new("secret", 1));
    let name = format!("{}/private/app", registry.address);
    let with = |user: &str, password: &str| Registries {
        credentials: Some(Credentials { user: user.into(), password: password.into() }),
        ..Registries::default()
    };
    for wrong in [Registries::default(), with("me", "guess"), with("nobody", debian::PASSWORD)] {
        let error = images.pull(&name, &wrong, &()).unwrap_err();
        assert!(matches!(error, ImageError::Pull(PullError::Unauthorized { .. })), "{}", said(&error));
        assert!(error.to_string().contains("msb login"), "{error}");
    }
    // A part from before that is worth nothing does no harm.
    let layer = Content::new("secret", 1).layers[0].digest().hex();
    fs::write(keep.path().join(format!("home/images/tmp/{layer}.part")), "garbage").unwrap();
    images.pull(&name, &with(debian::USER, debian::PASSWORD), &()).unwrap();
    let config = keep.path().join("config.json");
    let auth = data_encoding::BASE64.encode(format!("{}:{}", debian::USER, debian::PASSWORD).as_bytes());
    fs::write(&config, format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.address)).unwrap();
    let logged_in = Registries { docker_config: Some(config), ..Registries::default() };
    images.get(&name, Pull::Always, &logged_in, &()).unwrap();
}

#[test]
fn who_has_logged_in_is_known_until_he_logs_out() {
    let Some((keep, images)) = images("who_has_logged_in_is_known_until_he_logs_out") else { return };
    let with_passwords = Debian::start(true);
    with_passwords.push("private/app", "latest", &Content::new("secret", 1));
    let with_tokens = Debian::start(false);
    with_tokens.push("private/app", "latest", &Content::new("signed", 1));
    let tokens = Tokens::start();
    let with_tokens = with_tokens.again(&tokens.configuration(), "");
    let registries =
        Registries { docker_config: Some(keep.path().join("docker/config.json")), ..Registries::default() };
    let as_user = |password: &str| Credentials { user: debian::USER.into(), password: password.into() };
    for registry in [&with_passwords.address, &with_tokens.address] {
        let name = format!("{registry}/private/app");
        let error = registries.login(registry, &as_user("guess")).unwrap_err();
        assert!(matches!(error, PullError::Login { .. }), "{error}");
        images.pull(&name, &registries, &()).unwrap_err();
        registries.login(registry, &as_user(debian::PASSWORD)).unwrap();
        images.pull(&name, &registries, &()).unwrap();
    }
    assert!(registries.logout(&with_passwords.address).unwrap());
    images.pull(&format!("{}/private/app", with_passwords.address), &registries, &()).unwrap_err();
    images.pull(&format!("{}/private/app", with_tokens.address), &registries, &()).unwrap();
}

#[test]
fn a_registry_that_wants_a_token_of_somebody_else() {
    let Some((_keep, images)) = images("a_registry_that_wants_a_token_of_somebody_else") else { return };
    let registry = Debian::start(false);
    registry.push("private/app", "latest", &Content::new("signed", 2));
    let tokens = Tokens::start();
    let registry = registry.again(&tokens.configuration(), "");
    let name = format!("{}/private/app", registry.address);
    let with = |password: &str| Registries {
        credentials: Some(Credentials { user: debian::USER.into(), password: password.into() }),
        ..Registries::default()
    };
    for wrong in [Registries::default(), with("guess")] {
        let error = images.pull(&name, &wrong, &()).unwrap_err();
        assert!(matches!(error, ImageError::Pull(PullError::Unauthorized { .. })), "{}", said(&error));
    }
    let image = images.pull(&name, &with(debian::PASSWORD), &()).unwrap();
    assert_eq!(fs::read_to_string(image.layers[1].join("layer")).unwrap(), "signed 1");
}

/// A proxy that leads to `to`, wherever it is asked for.
fn tunnel(to: &str) -> String {
    let (listener, to) = (TcpListener::bind("127.0.0.1:0").unwrap(), to.to_owned());
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
            let lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
            assert!(lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>()[0].starts_with("CONNECT "));
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut server);
                let _ = server.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = io::copy(&mut back, &mut client);
                let _ = client.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

#[test]
fn a_registry_with_a_certificate_of_ones_own_authority() {
    let Some((keep, images)) = images("a_registry_with_a_certificate_of_ones_own_authority") else { return };
    let keys = tempfile::tempdir().unwrap();
    let of = |name: &str| keys.path().join(name).display().to_string();
    fs::write(of("names"), "subjectAltName=DNS:registry.test\n").unwrap();
    openssl(
        keys.path(),
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca -subj /CN=authority -days 2",
    );
    openssl(keys.path(), "req -newkey rsa:2048 -nodes -keyout key -out request -subj /CN=registry.test");
    openssl(
        keys.path(),
        "x509 -req -in request -CA ca -CAkey ca.key -CAcreateserial -days 2 -extfile names -out certificate",
    );
    let registry = Debian::start(false);
    registry.push("app", "latest", &Content::new("sealed", 2));
    let registry =
        registry.again("", &format!(", tls: {{certificate: {}, key: {}}}", of("certificate"), of("key")));
    let proxy = tunnel(&registry.address);
    // Its own process: whom it believes is in the environment, as OpenSSL's programs have it.
    let pull = |authority: &str| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msb"));
        command.args(["pull", "registry.test:5000/app"]).env("HTTPS_PROXY", format!("http://{proxy}"));
        command.env(Home::VARIABLE, keep.path().join("home")).env("SSL_CERT_FILE", authority);
        command.output().unwrap()
    };
    let refused = pull("/etc/ssl/certs/ca-certificates.crt");
    let text = String::from_utf8_lossy(&refused.stderr).to_lowercase();
    assert!(!refused.status.success() && text.contains("certificate"), "{text}");
    let pulled = pull(&of("ca"));
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    let image = images.get("registry.test:5000/app", Pull::Never, &Registries::default(), &()).unwrap();
    assert_eq!(fs::read_to_string(image.layers[1].join("layer")).unwrap(), "sealed 1");
}

#[test]
fn what_came_before_a_connection_broke_is_continued() {
    let Some((_keep, images)) = images("what_came_before_a_connection_broke_is_continued") else { return };
    let content = Content::new("long", 2);
    // Each answer ends after a third of the layer: four of them make it whole.
    let part = content.layers[0].blob.len() / 3;
    let layer = content.layers[0].path("app");
    let registry = Fake::start(content.answers("app"), move |path, answer| match answer {
        Answer::Found(body) if path == layer => {
            let after = body.len().min(part);
            Answer::Cut { body, after }
        }
        answer => answer,
    });
    let image = images.pull(&format!("{}/app", registry.address), &Registries::default(), &()).unwrap();
    assert_eq!(fs::read_to_string(image.layers[0].join("layer")).unwrap(), "long 0");
    let ranges: Vec<u64> = registry.ranges(&content.layers[0].path("app"));
    assert!(ranges.len() >= 3 && ranges.is_sorted_by(|one, next| one < next), "{ranges:?}");
}

#[test]
fn what_is_not_what_was_asked_for_does_not_count() {
    let Some((_keep, images)) = images("what_is_not_what_was_asked_for_does_not_count") else { return };
    let content = Content::new("honest", 1);
    let (layer, manifest) =
        (content.layers[0].path("app"), format!("/v2/app/manifests/{}", content.manifest_digest()));
    type Change = Box<dyn Fn(&str, Answer) -> Answer + Send + Sync>;
    let on = |wanted: &str, change: fn(Vec<u8>) -> Answer| -> Change {
        let wanted = wanted.to_owned();
        Box::new(move |path, answer| match answer {
            Answer::Found(body) if path == wanted => change(body),
            answer => answer,
        })
    };
    let cases: Vec<(&str, Change)> = vec![
        ("another layer", on(&layer, |body| Answer::Found(body.iter().map(|byte| byte ^ 1).collect()))),
        ("a longer layer", on(&layer, |body| Answer::Found([body, vec![0; 100_000]].concat()))),
        ("another manifest", on(&manifest, |body| Answer::Found([body, b" ".to_vec()].concat()))),
        ("a manifest without an end", on("/v2/app/manifests/latest", |_| Answer::Endless)),
        ("nonsense", on("/v2/app/manifests/latest", |_| Answer::Found(b"hello".to_vec()))),
        ("an error", on("/v2/app/manifests/latest", |_| Answer::Status(418))),
    ];
    for (what, change) in cases {
        let registry = Fake::start(content.answers("app"), change);
        let error =
            images.pull(&format!("{}/app", registry.address), &Registries::default(), &()).unwrap_err();
        eprintln!("{what}: {}", said(&error));
    }
    assert!(images.list().unwrap().is_empty());
}

#[test]
fn proxies_are_for_other_machines() {
    let Some((_keep, images)) = images("proxies_are_for_other_machines") else { return };
    let content = Content::new("far", 1);
    // It answers as a proxy, too: the same paths with a host before them.
    let registry = Fake::start(content.answers("app"), |_, answer| answer);
    let nobody = Proxies { http: Some("http://127.0.0.1:9".into()), ..Proxies::default() };
    let through = |proxies: Proxies| Registries {
        insecure: vec!["registry.invalid:5000".into()],
        proxies,
        ..Registries::default()
    };
    images.pull(&format!("{}/app", registry.address), &through(nobody.clone()), &()).unwrap();
    let error = images.pull("registry.invalid:5000/app", &through(nobody), &()).unwrap_err();
    assert!(matches!(error, ImageError::Pull(PullError::Unreachable { .. })), "{}", said(&error));
    let proxies = Proxies { http: Some(format!("http://{}", registry.address)), ..Proxies::default() };
    let image = images.pull("registry.invalid:5000/app", &through(proxies), &()).unwrap();
    assert_eq!(image.reference, "registry.invalid:5000/app:latest");
}
