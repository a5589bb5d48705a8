//! Everything over TLS against qemu-nbd and nbdkit, which do it with GnuTLS: equal to the same in
//! plaintext. Both ask for a certificate of the client.
#![cfg(unix)]

use nbd_client::survey::Order;
use nbd_client::{Client, Options, Pool, TlsOptions, Uri, aio};
use nbd_extents::{Context, Contexts};
use testkit::clients::{Kind, SurveyKind};
use testkit::image::{Image, KIB, MIB, Recipe, Step};
use testkit::pki::Pki;
use testkit::server::{Server, folder};
use testkit::tools;

const SIZE: u64 = 8 * MIB;

fn recipe() -> Recipe {
    Recipe::qcow2(
        64 * KIB,
        SIZE,
        vec![
            Step::Write { at: 0, length: 3 * MIB },
            Step::bitmap("b0"),
            Step::Fill { at: MIB, length: 512 * KIB, byte: 0x77 },
            Step::Zero { at: 2 * MIB, length: 128 * KIB },
            Step::Discard { at: 5 * MIB, length: MIB },
        ],
    )
}

/// qemu-nbd over TLS, which demands a certificate of its client.
fn qemu_over_tls(image: &Image, options: &[&str], pki: &Pki) -> Server {
    let tls = format!("tls-creds-x509,id=tls,dir={},endpoint=server,verify-peer=yes", pki.path().display());
    let options = [&["--object", &tls, "--tls-creds", "tls"], options].concat();
    Server::qemu_nbd_writable(image, &options)
}

fn nbdkit(options: &[&str], pki: Option<&Pki>) -> Server {
    let Some(pki) = pki else { return Server::nbdkit_writable(&[], options) };
    let folder = format!("--tls-certificates={}", pki.path().display());
    Server::nbdkit_writable(&["--tls=require", "--tls-verify-peer", &folder], options)
}

/// The URI of a server, with TLS by this folder of certificates.
fn uri(server: &Server, pki: Option<&Pki>) -> Uri {
    let plain: Uri = server.uri("").parse().unwrap();
    Uri::new(plain.address().clone(), "", pki.map(Pki::client)).unwrap()
}

#[test]
fn surveys_in_both_orders_equal_those_in_plaintext() {
    if !tools::require_qemu() {
        return;
    }
    let (folder, pki) = (folder(), Pki::new());
    let image = recipe().make(folder.path());
    let plain = Server::qemu_nbd(&image, &["b0"]);
    let server = qemu_over_tls(&image, &["-r", "-A", "-B", "b0"], &pki);
    let contexts = Contexts::new()
        .require(Context::Allocation)
        .and_then(|contexts| contexts.require(Context::bitmap("b0")))
        .and_then(|contexts| contexts.optional(Context::Depth))
        .unwrap();
    for kind in SurveyKind::ALL {
        for order in [Order::Together, Order::BitmapFirst] {
            let survey = |uri: &Uri| {
                let mut surveyor = kind.connect(uri, &Options::new(), &contexts, order).unwrap();
                let options = surveyor.survey_options().unwrap();
                let extents = surveyor.survey(options).unwrap();
                surveyor.disconnect().unwrap();
                extents
            };
            let over_tls = survey(&uri(&server, Some(&pki)));
            assert!(over_tls.len() > 4, "{over_tls:?}");
            assert_eq!(over_tls, survey(&uri(&plain, None)), "{kind:?}, {order:?}");
        }
    }
}

#[test]
fn data_and_lists_equal_those_in_plaintext() {
    if !tools::require_qemu() {
        return;
    }
    let (folder, pki) = (folder(), Pki::new());
    let image = recipe().make(folder.path());
    let plain = Server::qemu_nbd(&image, &["b0"]);
    let server = qemu_over_tls(&image, &["-r", "-A", "-B", "b0"], &pki);
    let (secret, open) = (uri(&server, Some(&pki)), uri(&plain, None));
    let length = usize::try_from(SIZE).unwrap();
    let mut whole = vec![0; length];
    Client::connect(&open, &Options::new()).unwrap().read(0, &mut whole).unwrap();
    for kind in Kind::ALL {
        let mut client = kind.connect(&secret, &Options::new()).unwrap();
        assert!(client.export().tls.is_some());
        assert!(client.read(0, length).unwrap() == whole, "{kind:?}");
        client.disconnect().unwrap();
    }
    let mut pool = Pool::connect(&secret, &Options::new(), 4).unwrap();
    assert_eq!(pool.connections(), 4);
    let mut read = vec![1; length];
    pool.read(0, &mut read).unwrap();
    assert!(read == whole, "a pool of four");
    pool.disconnect().unwrap();

    let exports = Client::list_exports(&open, &Options::new()).unwrap();
    assert!(!exports.is_empty());
    assert_eq!(Client::list_exports(&secret, &Options::new()).unwrap(), exports);
    let contexts = Client::list_contexts(&open, &Options::new()).unwrap();
    assert_eq!(Client::list_contexts(&secret, &Options::new()).unwrap(), contexts);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert_eq!(aio::Client::list_exports(&secret, &Options::new()).await.unwrap(), exports);
        assert_eq!(aio::Client::list_contexts(&secret, &Options::new()).await.unwrap(), contexts);
    });
}

/// Writes, zeroes and reads what each kind of client can, and returns all that is there then.
fn change(uri: &Uri, kind: Kind) -> Vec<u8> {
    let mut client = kind.connect(uri, &Options::new()).unwrap();
    let data: Vec<u8> = (0..3 * MIB).map(|at| (at % 251) as u8).collect();
    client.write(MIB, &data).unwrap();
    client.write_fua(512, &data[..4096]).unwrap();
    client.zero(2 * MIB, MIB).unwrap();
    client.flush().unwrap();
    let all = client.read(0, usize::try_from(SIZE).unwrap()).unwrap();
    client.disconnect().unwrap();
    all
}

#[test]
fn changes_equal_those_in_plaintext() {
    if !tools::require_qemu() || !tools::require(&["nbdkit"]) {
        return;
    }
    let pki = Pki::new();
    for kind in Kind::WITH_CALLS {
        let folder = folder();
        let image = recipe().make(folder.path());
        let copy = image.copy("copy.qcow2");
        let plain = Server::qemu_nbd_writable(&image, &[]);
        let server = qemu_over_tls(&copy, &[], &pki);
        let expected = change(&uri(&plain, None), kind);
        assert!(change(&uri(&server, Some(&pki)), kind) == expected, "qemu-nbd, {kind:?}");
        drop((plain, server));
        assert!(image.is_identical(&copy), "{kind:?}");

        let memory = ["memory", "8M"];
        let expected = change(&uri(&nbdkit(&memory, None), None), kind);
        let server = nbdkit(&memory, Some(&pki));
        assert!(change(&uri(&server, Some(&pki)), kind) == expected, "nbdkit, {kind:?}");
    }
}

/// Servers with GnuTLS refuse a client in two ways: qemu-nbd hangs up without an
/// alert, nbdkit sends one.
#[test]
fn clients_that_they_refuse_learn_why() {
    if !tools::require_qemu() || !tools::require(&["nbdkit"]) {
        return;
    }
    let (folder, pki) = (folder(), Pki::new());
    let image = recipe().make(folder.path());
    for server in [qemu_over_tls(&image, &[], &pki), nbdkit(&["memory", "8M"], Some(&pki))] {
        let plain: Uri = server.uri("").parse().unwrap();
        let authority_alone = Pki::new();
        authority_alone.write("ca-cert.pem", &pki.authority.certificate_pem());
        let foreign = authority_alone.client();
        let nothing = TlsOptions::new().verify_peer(false);
        for (tls, says) in
            [(foreign, "did not accept the client's certificate"), (nothing, "there is none to send")]
        {
            let uri = Uri::new(plain.address().clone(), "", Some(tls)).unwrap();
            for kind in Kind::ALL {
                let error = kind.connect(&uri, &Options::new()).map(|_| ()).unwrap_err();
                assert_eq!(error.class(), nbd_client::ErrorClass::Connection);
                assert!(error.to_string().contains(says), "{kind:?}: {error}");
            }
        }
        for kind in Kind::ALL {
            let error = kind.connect(&plain, &Options::new()).map(|_| ()).unwrap_err();
            assert_eq!(error.class(), nbd_client::ErrorClass::Connection, "{error}");
        }
    }
}
