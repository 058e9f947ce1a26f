//! `headwater keys serve`, `export` and `import-cpix` as they are run: keys out of a vault, over HTTP and as documents.
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
        let line = format!("--log-format json keys serve {vault} --listen 127.0.0.1:0 --credentials who.toml");
        let mut process = folder.command(&line).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "ended before it served: {seen}");
            seen += &line;
            let start = line.find("127.0.0.1:").filter(|_| line.contains("serving keys"));
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
