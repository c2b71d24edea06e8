//! What went wrong with a handshake, for whoever has to put it right.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use std::io;

/// The fault in words, if it is one of TLS.
pub fn words(error: &io::Error) -> Option<String> {
    let text = match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(fault) => certificate_words(fault),
        Error::NoCertificatesPresented => {
            "it shows no certificate; nodes of this cluster need one (--tls-directory)".to_owned()
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS, and this node does; start both with --tls-directory, or neither".to_owned()
        }
        Error::AlertReceived(alert) => format!("it does not accept this node's certificate: {}", alert_words(*alert)),
        other => format!("TLS: {other}"),
    };
    Some(text)
}

fn certificate_words(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; compare the clocks".to_owned()
        }
        // Two authorities of one name look like one that signed badly.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate comes from an authority that is not in ca.crt: it is of another cluster, or ca.crt is old"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is not for this cluster's name (--tls-name): it is of another cluster".to_owned()
        }
        other => format!("its certificate is refused: {other}"),
    }
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "it has expired; renew it".to_owned(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => "its authority is not known there".to_owned(),
        AlertDescription::CertificateRequired => "there was none".to_owned(),
        other => format!("{other:?}"),
    }
}
