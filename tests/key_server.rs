//! `headwater keys serve`, `fetch`, `export`, `import-cpix` and `licences serve` as they are run: keys out of a vault and
//! into one, over HTTP and as documents.
#![cfg(feature = "control")]
#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const API_KEY: &str = "a-key-of-an-encryptor-1";
const VIDEO: &str = "0f083e4e-b831-4a3d-917e-ce78076e54aa";
const AUDIO: &str = "041fdd3a-7f5e-4848-a7cb-65e97758e9a0";
const SURROUND: &str = "241fdd3a-7f5e-4848-a7cb-65e97758e9a0";
const CERTIFICATE: &str = include_str!("../control-api/tests/fixtures/cpix-recipient.cert.pem");
const PRIVATE_KEY: &str = include_str!("../control-api/tests/fixtures/cpix-recipient.key.pem");

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("headwater-key-server-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.args(line.split_whitespace()).current_dir(&self.0);
        command
    }

    /// Runs a line of words in the folder, and it works.
    fn done(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && err.is_empty(), "{line}: {err}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, and it is refused with these words.
    fn refused(&self, line: &str, expected: &str) {
        let output = self.command(line).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{line}");
        assert!(err.contains(expected), "{line}: {err}");
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Key id, key, scheme, class and period of every key of a title.
    fn keys(&self, vault: &str, media_id: &str) -> Vec<[String; 5]> {
        let listed = self.done(&format!("keys list {vault} {media_id} --json --show-secrets"));
        let rows = listed.lines().map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            ["key_id", "key", "scheme", "track", "period"].map(|name| row[name].to_string())
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        rows
    }
}

/// A server that goes with the test.
struct Server {
    process: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(folder: &Folder, vault: &str) -> Server {
        let line = format!("keys serve {vault} --listen 127.0.0.1:0 --credentials who.toml");
        Server::run(folder, &line, "serving keys")
    }

    fn run(folder: &Folder, line: &str, ready: &str) -> Server {
        let mut process = folder
            .command(&format!("--log-format json {line}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "ended before it served: {seen}");
            seen += &line;
            let start = line.find("127.0.0.1:").filter(|_| line.contains(ready));
            if let Some(start) = start {
                let address = &line[start..];
                let end = address.find(|c: char| !matches!(c, '0'..='9' | '.' | ':')).unwrap();
                break address[..end].to_owned();
            }
        };
        // Whoever logs must not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server { process, address }
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let size = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: keys\r\nConnection: close\r\n{headers}Content-Length: {size}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn speke(&self, key: &str, body: &str) -> (u16, String) {
        let headers = format!("X-Speke-Version: 2.0\r\nX-Api-Key: {key}\r\n");
        self.send("POST", "/v1/keys/speke", &headers, body)
    }

    /// Told to stop, it ends by itself.
    fn stop(mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }
}

/// A request of SPEKE 2.0.
fn request(content_id: &str, scheme: &str, keys: &[(&str, &str)]) -> String {
    let list = |line: &dyn Fn(&str, &str) -> String| keys.iter().map(|(id, track)| line(id, track)).collect::<String>();
    let elements = list(&|id, _| format!("<ContentKey kid=\"{id}\" commonEncryptionScheme=\"{scheme}\"/>"));
    let systems = list(&|id, _| {
        format!("<DRMSystem kid=\"{id}\" systemId=\"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed\"><PSSH/></DRMSystem>")
    });
    let rules = list(&|id, track| format!("<ContentKeyUsageRule kid=\"{id}\" intendedTrackType=\"{track}\"/>"));
    format!(
        "<CPIX contentId=\"{content_id}\" version=\"2.3\" xmlns=\"urn:dashif:org:cpix\" \
         xmlns:pskc=\"urn:ietf:params:xml:ns:keyprov:pskc\"><ContentKeyList>{elements}</ContentKeyList>\
         <DRMSystemList>{systems}</DRMSystemList><ContentKeyUsageRuleList>{rules}</ContentKeyUsageRuleList></CPIX>"
    )
}

/// The values of the keys in a document, in order.
fn values(document: &str) -> Vec<String> {
    let parts = document.split("PlainValue>").skip(1).step_by(2);
    parts.map(|part| part.split('<').next().unwrap().to_owned()).collect()
}

fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.done("keys init v");
    let client = |name: &str, tenant: &str, key: &str| {
        format!("[[client]]\nname = \"{name}\"\ntenant = \"{tenant}\"\napi_key = \"{key}\"\nclear_keys = true\n")
    };
    let who = client("one", "acme", API_KEY) + &client("two", "other", "a-key-of-an-encryptor-2");
    folder.write("who.toml", &who, 0o600);
    folder
}

#[test]
fn encryptors_get_the_same_keys_always() {
    let folder = folder("serve");
    folder.write("open.toml", "", 0o640);
    folder.refused("keys serve v --listen 127.0.0.1:0 --credentials open.toml", "chmod 600");
    folder.refused(
        "keys serve w --listen 127.0.0.1:0 --credentials who.toml",
        "w: No such file",
    );

    let server = Server::start(&folder, "v");
    let pair = [(VIDEO, "VIDEO"), (AUDIO, "STEREO_AUDIO")];
    let (status, first) = server.speke(API_KEY, &request("film-1", "cbcs", &pair));
    assert_eq!((status, values(&first).len()), (200, 2), "{first}");
    let listed = folder.keys("v", "film-1");
    let uses: Vec<_> = listed
        .iter()
        .map(|[id, _, scheme, track, _]| [id, scheme, track].map(|text| text.replace('"', "")))
        .collect();
    assert_eq!(uses, [[AUDIO, "cbcs", "AUDIO"], [VIDEO, "cbcs", "HD"]]);
    let (_, again) = server.speke(API_KEY, &request("film-1", "cbcs", &pair));
    assert_eq!(values(&again), values(&first));
    server.stop();

    // Nor do they change with the server; and commands have the vault too while it runs.
    let server = Server::start(&folder, "v");
    let more = [pair[0], pair[1], (SURROUND, "MULTICHANNEL_AUDIO")];
    let (status, third) = server.speke(API_KEY, &request("film-1", "cbcs", &more));
    assert_eq!(
        (status, &values(&third)[..2]),
        (200, values(&first).as_slice()),
        "{third}"
    );
    assert_eq!(folder.keys("v", "film-1").len(), 3);
    let (_, fourth) = server.speke(API_KEY, &request("film-1", "cbcs", &more));
    assert_eq!(values(&fourth), values(&third));

    for (key, content_id, scheme, keys, expected) in [
        (API_KEY, "film-1", "cenc", &pair, 409),
        (API_KEY, "film-1", "cbcs", &[(VIDEO, "UHD"), (AUDIO, "AUDIO")], 409),
        ("a-key-of-an-encryptor-2", "film-1", "cbcs", &pair, 404),
        ("a-key-of-nobody-at-all", "film-1", "cbcs", &pair, 401),
    ] {
        let (status, body) = server.speke(key, &request(content_id, scheme, keys));
        assert_eq!(status, expected, "{body}");
    }
    assert_eq!(folder.keys("v", "film-1").len(), 3);
    folder.done(&format!("keys revoke v {VIDEO}"));
    let (status, body) = server.speke(API_KEY, &request("film-1", "cbcs", &pair));
    assert_eq!(status, 409, "{body}");

    // A title with a name that is no file's has one of its own, the same each time.
    let odd = request("../film 1", "cenc", &pair);
    let (status, first) = server.speke(API_KEY, &odd);
    assert_eq!(status, 200, "{first}");
    assert_eq!(values(&server.speke(API_KEY, &odd).1), values(&first));
    assert_eq!(
        folder
            .keys("v", "")
            .iter()
            .filter(|row| row[2].contains("cenc"))
            .count(),
        2
    );
}

#[test]
fn documents_carry_keys_from_vault_to_vault() {
    let folder = folder("documents");
    folder.write("cert.pem", CERTIFICATE, 0o644);
    folder.write("key.pem", PRIVATE_KEY, 0o600);
    folder.write("open.pem", PRIVATE_KEY, 0o644);
    folder.done("keys init w");
    folder.done("keys create v film-1 --scheme cbcs,cenc");
    folder.done("keys export v film-1 --recipient cert.pem -o film-1.xml");
    let path = folder.0.join("film-1.xml");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let document = fs::read_to_string(path).unwrap();
    assert!(
        document.contains("version=\"2.4\"") && !document.contains("PlainValue"),
        "{document}"
    );

    let import = "keys import-cpix w film-1 film-1.xml";
    folder.refused(import, "no private key is known");
    folder.refused(&format!("{import} --private-key open.pem"), "chmod 600");
    assert_eq!(
        folder.done(&format!("{import} --private-key key.pem")),
        "film-1: 10 imported\n"
    );
    assert_eq!(folder.keys("w", "film-1"), folder.keys("v", "film-1"));
    // The same keys again change nothing; others for the same use are refused, all of them.
    folder.done(&format!("{import} --private-key key.pem"));
    folder.done("keys create w film-2 --scheme cbcs");
    let before = folder.keys("w", "film-2");
    folder.refused(
        "keys import-cpix w film-2 film-1.xml --private-key key.pem",
        "is in other use",
    );
    assert_eq!(folder.keys("w", "film-2"), before);

    let plain = folder.done("keys export v film-1 --plain --show-secrets --cpix 2.3");
    assert!(
        plain.contains("version=\"2.3\"") && values(&plain).len() == 10,
        "{plain}"
    );
    folder.write("plain.xml", &plain, 0o600);
    folder.done("keys import-cpix w film-3 plain.xml");
    assert_eq!(folder.keys("w", "film-3"), folder.keys("v", "film-1"));
    folder.refused("keys export v film-1 --plain", "--show-secrets");
    folder.refused("keys export v film-1 --show-secrets", "--recipient");
    folder.refused(
        "keys export v film-1 --plain --show-secrets --recipient cert.pem",
        "cannot be used",
    );
    folder.refused("keys export v film-1 --recipient key.pem", "key.pem: not a certificate");
    folder.refused("keys export v film-9 --recipient cert.pem", "film-9: has no keys");
    folder.refused("keys export v film-1 --recipient cert.pem -o film-1.xml", "File exists");
}

/// A file that says where to fetch keys.
fn server_file(folder: &Folder, name: &str, protocol: &str, server: &Server, more: &str) {
    let path = match protocol {
        "getcontentkey" => "cenc/getcontentkey/widevine_test",
        _ => "speke",
    };
    let url = format!("http://{}/v1/keys/{path}", server.address);
    folder.write(
        name,
        &format!("protocol = \"{protocol}\"\nurl = \"{url}\"\n{more}"),
        0o600,
    );
}

#[test]
fn keys_are_fetched_from_another_server() {
    let folder = folder("fetch");
    let aes = format!("aes_key = \"{}\"\naes_iv = \"{}\"\n", "1a".repeat(32), "d5".repeat(16));
    let mut who = fs::read_to_string(folder.0.join("who.toml")).unwrap();
    who += &format!("[[signer]]\nname = \"widevine_test\"\ntenant = \"acme\"\n{aes}");
    folder.write("who.toml", &who, 0o600);
    folder.write("cert.pem", CERTIFICATE, 0o644);
    folder.write("key.pem", PRIVATE_KEY, 0o600);
    folder.done("keys init w");
    let server = Server::start(&folder, "v");
    let api_key = format!("api_key = \"{API_KEY}\"\n");
    for protocol in ["speke-2.0", "speke-2.1"] {
        server_file(&folder, "from.toml", protocol, &server, &api_key);
        let line = format!("keys fetch w {protocol} --from from.toml");
        assert_eq!(folder.done(&line), format!("{protocol}: 5 fetched, 0 kept\n"));
        assert_eq!(folder.keys("w", protocol), folder.keys("v", protocol));
        // Nothing is asked for that is there.
        assert_eq!(folder.done(&line), format!("{protocol}: 0 fetched, 5 kept\n"));
        let line = format!("{line} --period 1 --starts 60 --track AUDIO,HD");
        assert_eq!(folder.done(&line), format!("{protocol}: 2 fetched, 0 kept\n"));
        assert_eq!(folder.keys("w", protocol).len(), 7);
    }
    // Encrypted to us on the way.
    let encrypted = format!("{api_key}certificate = \"cert.pem\"\nprivate_key = \"key.pem\"\n");
    server_file(&folder, "from.toml", "speke-2.1", &server, &encrypted);
    folder.done("keys fetch w film-2 --from from.toml --scheme cenc");
    assert_eq!(folder.keys("w", "film-2"), folder.keys("v", "film-2"));
    // Version 1 says neither scheme nor track: those are our own words.
    server_file(&folder, "from.toml", "speke-1", &server, &api_key);
    let line = "keys fetch w film-3 --from from.toml --scheme aes128 --track AUDIO,HD";
    assert_eq!(folder.done(line), "film-3: 2 fetched, 0 kept\n");
    let secrets = |vault: &str| -> Vec<[String; 2]> {
        let keys = folder.keys(vault, "film-3").into_iter();
        keys.map(|[id, key, ..]| [id, key]).collect()
    };
    assert_eq!(secrets("w"), secrets("v"));
    assert!(folder.keys("w", "film-3").iter().all(|key| key[2].contains("aes128")));
    server_file(
        &folder,
        "from.toml",
        "getcontentkey",
        &server,
        &format!("signer = \"widevine_test\"\n{aes}"),
    );
    assert_eq!(
        folder.done("keys fetch w film-4 --from from.toml --content-id other"),
        "film-4: 5 fetched, 0 kept\n"
    );
    assert_eq!(folder.keys("w", "film-4"), folder.keys("v", "other"));
    folder.done("keys fetch w film-4 --from from.toml --content-id other --period 2 --starts 9 --track SD");
    folder.refused(
        "keys fetch w film-4 --from from.toml --scheme aes128",
        "--scheme: the key API knows",
    );

    // What goes wrong is said, and nothing is kept.
    let line = "keys fetch w film-5 --from from.toml";
    let check = |protocol: &str, more: &str, expected: &str| {
        server_file(&folder, "from.toml", protocol, &server, more);
        folder.refused(line, expected);
    };
    check("speke-2.0", "", "status 401");
    check("speke-2.0", "api_key = \"a-key-of-nobody-at-all\"\n", "status 401");
    check("speke-2.0", "user = \"u\"\n", "either api_key or user and password");
    check(
        "speke-2.0",
        &format!("{api_key}certificate = \"cert.pem\"\n"),
        "go together",
    );
    check(
        "speke-2.0",
        &format!("{api_key}x = 1\n"),
        "from.toml: line 4: unknown field `x`",
    );
    check("getcontentkey", &api_key, "has no aes_key and aes_iv");
    let wrong = aes.replace("1a", "1b");
    check(
        "getcontentkey",
        &format!("signer = \"widevine_test\"\n{wrong}"),
        "SIGNATURE_FAILED",
    );
    folder.write(
        "from.toml",
        "protocol = \"speke-2.0\"\nurl = \"http://keys.example/\"\n",
        0o600,
    );
    folder.refused(line, "url: must be https");
    folder.write(
        "from.toml",
        "protocol = \"speke-2.0\"\nurl = \"https://10.0.0.1/\"\n",
        0o600,
    );
    folder.refused(line, "url: leads into a private network");
    folder.write("from.toml", "", 0o644);
    folder.refused(line, "chmod 600");
    let stopped = server.address.clone();
    server.stop();
    folder.write(
        "from.toml",
        &format!("protocol = \"speke-2.0\"\nurl = \"http://{stopped}/\"\n"),
        0o600,
    );
    folder.refused(line, "no connection");
    folder.refused("keys list w film-5", "film-5: has no keys");
}

/// Answers everything with one body, as somebody else's server might.
fn answering(head: &'static str, body: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut size = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                let value = line.to_lowercase().strip_prefix("content-length:").map(str::to_owned);
                size = value.map_or(size, |value| value.trim().parse().unwrap());
            }
            let _ = reader.read_exact(&mut vec![0; size]);
            let length = body.len();
            let _ = stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes());
        }
    });
    address
}

#[test]
fn answers_that_are_none_are_not_believed() {
    let folder = folder("fetch-wrong");
    let check = |protocol: &str, head: &'static str, body: &str, expected: &str| {
        let address = answering(head, body.to_owned());
        let signer = match protocol {
            "getcontentkey" => format!(
                "signer = \"s\"\naes_key = \"{}\"\naes_iv = \"{}\"\n",
                "0".repeat(64),
                "0".repeat(32)
            ),
            _ => String::new(),
        };
        let text = format!("protocol = \"{protocol}\"\nurl = \"http://{address}/\"\n{signer}");
        folder.write("from.toml", &text, 0o600);
        folder.refused("keys fetch v film-1 --from from.toml", expected);
    };
    let ok = "HTTP/1.1 200 OK\r\nX-Speke-Version: 2.0\r\n";
    check("speke-2.0", ok, "", "not well-formed XML");
    check("speke-2.0", ok, "<html/>", "CPIX");
    check("speke-2.0", "HTTP/1.1 200 OK\r\n", "<a/>", "Unsupported SPEKE version");
    check(
        "speke-2.0",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n",
        "",
        "status 302",
    );
    let none = "<CPIX contentId=\"film-1\" version=\"2.3\" xmlns=\"urn:dashif:org:cpix\"></CPIX>";
    check("speke-2.0", ok, none, "left out KID");
    check("speke-2.0", ok, &none.replace("film-1", "film-2"), "another title");
    check("speke-2.0", ok, &"x".repeat(3 << 20), "is longer than");
    check(
        "getcontentkey",
        "HTTP/1.1 200 OK\r\n",
        "{}",
        "not a response of a key server",
    );
    check(
        "getcontentkey",
        "HTTP/1.1 200 OK\r\n",
        "{\"response\":\"e30=\"}",
        "not a response of a key server",
    );
    check("getcontentkey", "HTTP/1.1 500 Error\r\n", "", "status 500");
    let refused = "{\"response\":\"eyJzdGF0dXMiOiJBQ0NFU1NfREVOSUVEIn0=\"}";
    check("getcontentkey", "HTTP/1.1 200 OK\r\n", refused, "ACCESS_DENIED");
    folder.refused("keys list v film-1", "film-1: has no keys");
}

const CONTROL: &str =
    "[control.licences]\nvault = \"v\"\nkek = \"v.kek\"\ngrant_keys = \"g.key\"\nrevoked = \"ended\"\n";

#[test]
fn players_get_licences_with_a_grant() {
    let folder = folder("licences");
    folder.done("keys create v film-1 --scheme cbcs,aes128");
    folder.done("grant new-key g.key");
    folder.write("ended", "", 0o644);
    folder.write("headwater.toml", &format!("{CONTROL}clear_key = true\n"), 0o644);
    let line = "licences serve --config headwater.toml --listen 127.0.0.1:0";
    let server = Server::run(&folder, line, "serving licences");
    let listed = folder.keys("v", "film-1");
    let key = listed
        .iter()
        .find(|key| key[2].contains("cbcs") && key[3].contains("AUDIO"))
        .unwrap();
    let bytes = |text: &str| -> Vec<u8> {
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    };
    let (id, secret) = (base64url(&bytes(&key[0])), base64url(&bytes(&key[1])));
    let body = format!("{{\"kids\":[\"{id}\"],\"type\":\"temporary\"}}");
    let token = |session: &str| {
        let made = folder.done(&format!("grant film-1 --key-file g.key --session {session} --json"));
        let row: serde_json::Value = serde_json::from_str(&made).unwrap();
        row["token"].as_str().unwrap().to_owned()
    };
    let send = |token: &str, title: &str| {
        let path = format!("/api/v1/drm/clearkey/license?content_id={title}");
        server.send("POST", &path, &format!("Authorization: Bearer {token}\r\n"), &body)
    };
    let good = token("s1");
    let expected =
        format!("{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{secret}\",\"kid\":\"{id}\"}}],\"type\":\"temporary\"}}");
    assert_eq!(send(&good, "film-1"), (200, expected));
    assert_eq!(send(&good, "film-2").0, 403);
    assert_eq!(send("x", "film-1").0, 403);
    let (status, body) = server.send("POST", "/api/v1/drm/clearkey/license?content_id=film-1", "", "{}");
    assert!(status == 401 && body.contains("MEDIA_TOKEN_REQUIRED"), "{body}");
    // A key that was revoked, and a session that was ended, are out of use within seconds.
    let ended = token("s2");
    assert_eq!(send(&ended, "film-1").0, 200);
    folder.write("ended", "7332\n", 0o644);
    folder.done(&format!("keys revoke v {}", key[0].trim_matches('"')));
    let late = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while send(&ended, "film-1").1.contains("keys") || send(&good, "film-1").0 == 200 {
        assert!(std::time::Instant::now() < late, "still given out");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(send(&ended, "film-1").1.contains("MEDIA_TOKEN_INVALID"));
    assert!(send(&good, "film-1").1.contains("FORBIDDEN"));
    server.stop();
}

fn base64url(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let chunks = bytes.chunks(3).map(|chunk| {
        let group = (0..3).fold(0, |group, at| {
            group << 8 | u32::from(chunk.get(at).copied().unwrap_or(0))
        });
        let all: String = (0..4)
            .map(|at| char::from(letters[(group >> (18 - 6 * at) & 63) as usize]))
            .collect();
        all[..chunk.len() + 1].to_owned()
    });
    chunks.collect()
}

#[test]
fn a_licence_server_that_can_not_work_does_not_start() {
    let folder = folder("licences-wrong");
    folder.done("grant new-key g.key");
    folder.write("ended", "", 0o644);
    folder.write(
        "secrets.toml",
        &format!("aes_key = \"{}\"\naes_iv = \"{}\"\n", "0".repeat(64), "0".repeat(32)),
        0o600,
    );
    let check = |text: &str, expected: &str| {
        folder.write("headwater.toml", text, 0o644);
        folder.refused("licences serve --config headwater.toml --listen 127.0.0.1:0", expected);
    };
    check("", "headwater.toml: has no [control.licences]");
    check(CONTROL, "[control.licences] offers no system");
    check(&format!("{CONTROL}x = 1\n"), "unknown field `x`");
    check(
        &format!("{}clear_key = true\n", CONTROL.replace("\"v\"", "\"w\"")),
        "w: no vault is here; `headwater keys init` makes one",
    );
    check(&CONTROL.replace("g.key", "none.key"), "none.key: No such file");
    check(
        &format!("{CONTROL}clear_key = true\nduration_s = 0\n"),
        "duration_s: 0 is outside",
    );
    let service = |system: &str, adapter: &str, url: &str, more: &str| {
        format!("{CONTROL}[control.licences.{system}]\nadapter = \"{adapter}\"\nurl = \"{url}\"\n{more}")
    };
    let https = "https://license.example/x";
    check(
        &service("widevine", "widevine-cloud", "http://license.example/x", ""),
        "[control.licences.widevine]: url: must be https",
    );
    check(
        &service("widevine", "widevine-cloud", "https://10.0.0.1/x", ""),
        "leads into a private network",
    );
    check(
        &service("widevine", "fairplay-ksm", https, ""),
        "adapter is not one of this system",
    );
    check(&service("widevine", "widevine-cloud", https, ""), "secrets is not set");
    check(
        &service("widevine", "widevine-cloud", https, "secrets = \"secrets.toml\"\n"),
        "provider is not set",
    );
    check(
        &service("fairplay", "fairplay-ksm", https, ""),
        "a module elsewhere needs client_certificate",
    );
    check(&service("playready", "multidrm-http", https, ""), "token is not set");
    check(
        &service(
            "playready",
            "multidrm-http",
            https,
            "secrets = \"secrets.toml\"\ntoken = { kind = \"axinom\" }\n",
        ),
        "token: key_id is not set",
    );
    check(
        &format!(
            "{CONTROL}[control.licences.tracks.AUDIO]\nplayready_level = 3000\n[control.licences.playready]\nadapter = \"playready-http\"\nurl = \"{https}\"\n"
        ),
        "sound is never above 2000",
    );
    folder.write("secrets.toml", "", 0o644);
    check(
        &service("widevine", "widevine-cloud", https, "secrets = \"secrets.toml\"\n"),
        "chmod 600",
    );
}
