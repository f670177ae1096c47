//! Certificates for tests: an authority that lasts as long as its test, and servers that it vouches for.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

use crate::Tls;

/// Somebody whose word clients take, or do not.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one, whom nobody knows.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "commute test authority");
        Ok(Authority(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate, in PEM: what a client that trusts it is given.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// What a server at this host name, and no other, needs.
    ///
    /// # Errors
    /// When this is no host name.
    pub fn vouch(&self, host: &str, user: &str, password: &str) -> Result<Tls> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "commute test server");
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.0)?.pem();
        Ok(Tls { certificate, key: key.serialize_pem(), user: user.to_owned(), password: password.to_owned() })
    }
}
