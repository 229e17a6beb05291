//! The public listener over TLS: who is answered at all, and a session that a browser keeps for this
//! host alone.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::support::{Answer, PATIENCE, Scheduler, client, read};

/// A certificate of 127.0.0.1 in a folder of its own, removed at the end.
struct Certificate {
    folder: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let folder = format!("wharfage-http-tls-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        Self { folder, der: made.cert.der().clone() }
    }

    /// The lines of a scheduler's configuration that name it.
    fn lines(&self) -> String {
        let path = |name: &str| self.folder.join(name).display().to_string();
        format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", path("cert.pem"), path("key.pem"))
    }

    /// A client that trusts it and nothing else.
    fn client(&self) -> reqwest::Client {
        wharfage_link::tls::install();
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let builder = reqwest::Client::builder().tls_backend_preconfigured(config);
        let builder = builder.redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
        builder.build().expect("a client")
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The form of the sign-in page, with what else a browser sends.
async fn sign_in(browser: &reqwest::Client, url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = browser.post(format!("{url}/signin")).body("token=acme-viewer");
    request = request.header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request).await
}

#[tokio::test]
async fn over_tls_the_session_is_a_cookie_of_this_host_that_is_never_sent_in_the_clear() {
    let certificate = Certificate::new("cookie");
    let browser = certificate.client();
    let scheduler = Scheduler::start_for("tls-cookie", &certificate.lines(), browser.clone()).await;
    let url = &scheduler.url;
    assert_eq!(read(browser.get(format!("{url}/signin"))).await.status, 200);
    let signed_in = sign_in(&browser, url, &[("sec-fetch-site", "same-origin")]).await;
    assert_eq!(signed_in.status, 303, "{}", signed_in.text);
    let given = signed_in.headers["set-cookie"].to_str().expect("text").to_owned();
    let mut parts = given.split("; ");
    let cookie = parts.next().expect("a cookie");
    assert!(cookie.starts_with("__Host-wharfage="), "{given}");
    // What the prefix promises: Secure, the whole host, and no Domain.
    let attributes: Vec<_> = parts.collect();
    let expected = ["Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=43200", "Secure"];
    assert_eq!(attributes, expected);

    let page = |cookie: &str| read(browser.get(url).header("cookie", cookie));
    assert_eq!(page(cookie).await.status, 200);
    let unprefixed = cookie.trim_start_matches("__Host-");
    assert_eq!(page(unprefixed).await.status, 303, "a name that any subdomain could set");
    let signed_out = read(browser.post(format!("{url}/signout")).header("cookie", cookie)).await;
    let taken = signed_out.headers["set-cookie"].to_str().expect("text");
    assert!(taken.starts_with("__Host-wharfage=; Path=/; "), "{taken}");
    assert!(taken.contains("Max-Age=0; Secure"), "{taken}");
    assert_eq!(page(cookie).await.status, 303);
    scheduler.stop().await;
}

#[tokio::test]
async fn nobody_is_answered_in_the_clear_and_nobody_who_does_not_trust_the_certificate() {
    let (certificate, other) = (Certificate::new("own"), Certificate::new("other"));
    let scheduler =
        Scheduler::start_for("tls-only", &certificate.lines(), certificate.client()).await;
    let path = format!("{}/healthz", scheduler.url);
    assert_eq!(read(certificate.client().get(&path)).await.status, 200);
    let in_the_clear = client().get(path.replace("https://", "http://")).send().await;
    assert!(in_the_clear.is_err(), "{in_the_clear:?}");
    let distrusted = other.client().get(&path).send().await;
    assert!(distrusted.is_err(), "{distrusted:?}");
    scheduler.get("/api/v1/nodes", "acme-viewer").await.expect(200);
    scheduler.stop().await;
}

#[tokio::test]
async fn a_form_of_another_site_signs_nobody_in() {
    let certificate = Certificate::new("sites");
    let browser = certificate.client();
    let scheduler = Scheduler::start_for("tls-sites", &certificate.lines(), browser.clone()).await;
    let url = scheduler.url.as_str();
    let upper = url.to_uppercase();
    for ours in [
        &[][..],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "same-origin"), ("origin", url)],
        &[("origin", url)],
        &[("origin", &upper)],
    ] {
        assert_eq!(sign_in(&browser, url, ours).await.status, 303, "{ours:?}");
    }
    for other in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", url)],
        &[("origin", "https://elsewhere.example")],
        &[("origin", "https://127.0.0.1:1")],
        &[("origin", "null")],
    ] {
        let refused = sign_in(&browser, url, other).await;
        assert_eq!(refused.status, 403, "{other:?}");
        assert!(!refused.headers.contains_key("set-cookie"), "{other:?}");
    }
    scheduler.stop().await;
}
