//! What the `tls-` directives ask for, as rustls' configuration of a server. Cryptography is graviola's (docs/decisions/0007): no C.
//!
//! A configuration is made whole or not at all; connections keep the one that they began with. So certificates are replaced by
//! CONFIG SET to the same names, and nobody is cut off. Only what TLS 1.2 and 1.3 have left is offered: ECDHE with AEAD ciphers.

use crate::base::config::Config;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, Error, InconsistentKeys, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Files longer than this are no certificates.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Ciphers of TLS 1.2 under the names of OpenSSL, and of TLS 1.3.
const CIPHERS: &[(CipherSuite, &str)] = &[
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// Makes the configuration that new connections get; `None` if there is no TLS port. Errors are for the log.
pub fn configure(config: &Config) -> Result<Option<Arc<ServerConfig>>, String> {
    if config.number("tls-port") == 0 {
        return Ok(None);
    }
    if !processor_will_do() {
        return Err(
            "TLS needs a processor with AES, AVX2, ADX and BMI (or ARM's AES and SHA2) instructions".into()
        );
    }
    let provider =
        Arc::new(CryptoProvider { cipher_suites: ciphers(config)?, ..rustls_graviola::default_provider() });
    let verifier = client_verifier(config, &provider)?;
    let key = Arc::new(OneKey(Arc::new(certified_key(config, &provider)?)));
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&protocols(config.text("tls-protocols"))?)
        .map_err(|error| format!("tls-protocols, tls-ciphers, tls-ciphersuites: {error}"))?;
    let mut made = builder.with_client_cert_verifier(verifier).with_cert_resolver(key);
    made.ignore_client_order = config.flag("tls-prefer-server-ciphers");
    if config.flag("tls-session-caching") {
        let size = config.number("tls-session-cache-size").clamp(1, 1 << 20) as usize;
        made.session_storage = ServerSessionMemoryCache::new(size);
        made.ticketer =
            rustls_graviola::Ticketer::new().map_err(|error| format!("session tickets: {error}"))?;
    } else {
        made.session_storage = Arc::new(NoServerSessionStorage {});
        made.send_tls13_tickets = 0;
    }
    Ok(Some(Arc::new(made)))
}

/// What is wrong with words of directives, if there is a TLS port: the directive, and why.
pub fn check_lines(config: &Config) -> Result<(), (&'static str, String)> {
    if config.number("tls-port") == 0 {
        return Ok(());
    }
    protocols(config.text("tls-protocols")).map_err(|why| ("tls-protocols", why))?;
    let all = rustls_graviola::default_provider().cipher_suites;
    for (directive, version) in CIPHER_DIRECTIVES {
        chosen_ciphers(config.text(directive), version, &all)
            .map_err(|why| (*directive, format!("{directive}: {why}")))?;
    }
    Ok(())
}

/// One certificate for all names.
#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>);

impl ResolvesServerCert for OneKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What graviola asks for before it does anything; it panics where it is not there.
fn processor_will_do() -> bool {
    #[cfg(target_arch = "x86_64")]
    let will_do = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("adx")
        && std::arch::is_x86_feature_detected!("avx2");
    #[cfg(target_arch = "aarch64")]
    let will_do = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    will_do
}

fn certified_key(config: &Config, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (certificate, key) = (config.text("tls-cert-file"), config.text("tls-key-file"));
    if certificate.is_empty() {
        return Err("No tls-cert-file configured!".into());
    }
    if key.is_empty() {
        return Err("No tls-key-file configured!".into());
    }
    let chain = certificates(Path::new(certificate))
        .map_err(|error| format!("Failed to load certificate: {certificate}: {error}"))?;
    let key =
        private_key(key, provider).map_err(|error| format!("Failed to load private key: {key}: {error}"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("tls-key-file is not the key of tls-cert-file".into())
        }
        // It may be too old to be looked into; clients decide whether they like it.
        _ => Ok(certified),
    }
}

fn private_key(path: &str, provider: &CryptoProvider) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
    let text = read(Path::new(path))?;
    let is_encrypted =
        |marks: &[&[u8]]| marks.iter().any(|mark| text.windows(mark.len()).any(|part| part == *mark));
    if is_encrypted(&[b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"]) {
        return Err(
            "it is encrypted; encrypted keys are not supported (openssl pkey -in KEY -out PLAIN)".into()
        );
    }
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| error.to_string())?;
    provider.key_provider.load_private_key(key).map_err(|error| error.to_string())
}

/// Who of the clients is let in: `tls-auth-clients`.
fn client_verifier(
    config: &Config,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mode = config.text("tls-auth-clients");
    if mode == "no" {
        return Ok(Arc::new(NoClientAuth));
    }
    let (file, dir) = (config.text("tls-ca-cert-file"), config.text("tls-ca-cert-dir"));
    if file.is_empty() && dir.is_empty() {
        return Err(
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-auth-clients is enabled!"
                .into(),
        );
    }
    let mut roots = RootCertStore::empty();
    if !file.is_empty() {
        let failed = |error: String| format!("Failed to load CA certificate(s) file {file}: {error}");
        for certificate in certificates(Path::new(file)).map_err(failed)? {
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
    }
    if !dir.is_empty() {
        let failed = |error: std::io::Error| format!("Failed to load CA certificate(s) from {dir}: {error}");
        for entry in fs::read_dir(dir).map_err(failed)? {
            // Such folders hold other files too.
            for certificate in certificates(&entry.map_err(failed)?.path()).unwrap_or_default() {
                roots.add_parsable_certificates([certificate]);
            }
        }
    }
    if roots.is_empty() {
        return Err("no CA certificates found in tls-ca-cert-file and tls-ca-cert-dir".into());
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if mode == "optional" { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| format!("CA certificates: {error}"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in it".into()) } else { Ok(found) }
}

#[expect(clippy::disallowed_methods, reason = "keys and certificates are none of the database's")]
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?;
    if !length.is_file() || length.len() > FILE_BYTES_MAX {
        return Err("it is not a file of certificates or keys".into());
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// `tls-protocols`: words, in any case.
fn protocols(text: &str) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let mut versions = Vec::new();
    for word in text.split_ascii_whitespace() {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => versions.push(&TLS12),
            "tlsv1.3" => versions.push(&TLS13),
            "tlsv1" | "tlsv1.1" => {
                return Err(format!("tls-protocols: {word} is not safe, and not supported"));
            }
            _ => {
                return Err(
                    "Invalid tls-protocols specified. Use a combination of 'TLSv1.2' and 'TLSv1.3'.".into()
                );
            }
        }
    }
    Ok(if versions.is_empty() { vec![&TLS13, &TLS12] } else { versions })
}

const CIPHER_DIRECTIVES: &[(&str, &SupportedProtocolVersion)] =
    &[("tls-ciphersuites", &TLS13), ("tls-ciphers", &TLS12)];

/// `tls-ciphers` (TLS 1.2) and `tls-ciphersuites` (TLS 1.3), each in its order.
fn ciphers(config: &Config) -> Result<Vec<SupportedCipherSuite>, String> {
    let all = rustls_graviola::default_provider().cipher_suites;
    let mut chosen = Vec::new();
    for (directive, version) in CIPHER_DIRECTIVES {
        let own = chosen_ciphers(config.text(directive), version, &all);
        chosen.extend(own.map_err(|why| format!("{directive}: {why}"))?);
    }
    Ok(chosen)
}

fn chosen_ciphers(
    text: &str,
    version: &SupportedProtocolVersion,
    all: &[SupportedCipherSuite],
) -> Result<Vec<SupportedCipherSuite>, String> {
    let of_version = || all.iter().filter(|suite| suite.version() == version);
    if text.is_empty() || text == "DEFAULT" {
        return Ok(of_version().copied().collect());
    }
    let chosen = text.split(':').map(|name| {
        let known = CIPHERS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        let suite = known.and_then(|(suite, _)| of_version().find(|own| own.suite() == *suite));
        suite.copied().ok_or_else(|| {
            let names = CIPHERS.iter().filter(|(suite, _)| of_version().any(|own| own.suite() == *suite));
            let names: Vec<&str> = names.map(|(_, name)| *name).collect();
            format!("'{name}' is none of {}", names.join(", "))
        })
    });
    chosen.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::read(text.as_bytes(), &|_| Err(String::new())).unwrap()
    }

    #[test]
    fn ciphers_are_chosen_by_name() {
        assert_eq!(ciphers(&config("")).unwrap().len(), 9);
        let two = ciphers(&config(
            "tls-ciphers ECDHE-RSA-AES128-GCM-SHA256\ntls-ciphersuites tls_aes_128_gcm_sha256",
        ));
        assert_eq!(
            two.unwrap().iter().map(SupportedCipherSuite::suite).collect::<Vec<_>>(),
            [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
        );
        for text in
            ["tls-ciphers TLS_AES_128_GCM_SHA256", "tls-ciphersuites x", "tls-ciphers DEFAULT:!MEDIUM"]
        {
            assert!(ciphers(&config(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn protocols_are_two() {
        assert_eq!(protocols("").unwrap().len(), 2);
        assert_eq!(protocols("tlsv1.3").unwrap(), [&TLS13]);
        assert!(protocols("TLSv1.1").is_err() && protocols("SSLv3").is_err());
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(configure(&config("tls-auth-clients no")).unwrap().is_none());
        let error = |text: &str| configure(&config(&format!("tls-port 1\n{text}"))).unwrap_err();
        assert!(error("tls-auth-clients no").contains("No tls-cert-file"));
        assert!(error("").contains("tls-ca-cert-file"));
        assert!(error("tls-auth-clients no\ntls-cert-file /nowhere\ntls-key-file x").contains("/nowhere"));
    }
}
