//! The jobs as a program calls them: a chain that is made and restored by real servers and compared
//! by qemu-img, and each error that names its reason before a byte is written. `cli/tests` has the
//! same through the program, with far more disks and faults.
#![cfg(unix)]

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nbd_client::survey::SurveyorError;
use nbd_client::transport::Canceller;
use nbd_client::{Error, ErrorClass, Options, Uri};
use nbd_extents::action::BaselineError;
use nbd_extents_backup::sparse_stream::Meta;
use nbd_extents_backup::{
    Backup, BackupError, BackupFiles, FilesError, OutputError, Parent, Restore, RestoreError, UncheckedFact,
};
use tempfile::TempDir;
use testkit::image::{Image, KIB, MIB, Recipe, Step};
use testkit::server::{Server, folder};
use testkit::tools::{require, require_qemu};

const SIZE: u64 = 8 * MIB;

fn uri(server: &Server) -> Uri {
    server.uri("").parse().expect("a URI of the kit")
}

fn options() -> Options {
    Options::new()
}

/// A disk, and the folder of its backups.
struct Scene {
    folder: TempDir,
    disk: Image,
}

impl Scene {
    fn new() -> Self {
        let folder = folder();
        let disk = Recipe::qcow2(64 * KIB, SIZE, vec![Step::Write { at: MIB, length: 2 * MIB }]);
        Self { disk: disk.make(folder.path()), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A full backup of the disk, and an incremental of later writes.
    fn chain(&self) -> Vec<PathBuf> {
        let (full, changes) = (self.path("full"), self.path("changes"));
        let server = Server::qemu_nbd(&self.disk, &[]);
        let sunday = Backup::full().checkpoint(Some("sunday".into())).connections(4);
        sunday.to_file(&uri(&server), &options(), &full).unwrap();
        drop(server);
        self.disk.apply(&[Step::bitmap("b"), Step::Write { at: 5 * MIB, length: 300 * KIB }]);
        self.disk.apply(&[Step::Zero { at: 2 * MIB, length: MIB }]);
        let server = Server::qemu_nbd(&self.disk, &["b"]);
        let monday = Backup::incremental(["b"], Parent::read(&full).unwrap());
        let monday = monday.checkpoint(Some("monday".into()));
        let report = monday.to_file(&uri(&server), &options(), &changes).unwrap();
        assert_eq!(report.length, fs::metadata(&changes).unwrap().len());
        vec![full, changes]
    }

    fn with_chain(self) -> (Self, Vec<PathBuf>) {
        let chain = self.chain();
        (self, chain)
    }

    /// A disk of this size, full of other bytes.
    fn target(&self, size: u64) -> (Image, Server) {
        let place = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let target = Recipe::raw(size, vec![Step::Write { at: 0, length: size }]).make(&place);
        let server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
        (target, server)
    }
}

#[test]
fn a_chain_restores_the_disk_from_files_and_from_pipes() {
    if !require_qemu() {
        return;
    }
    let scene = Scene::new();
    let chain = scene.chain();
    let files = BackupFiles::read(chain.clone()).unwrap();
    assert_eq!(files.verify().unwrap(), [vec![], vec![]]);
    let (target, server) = scene.target(SIZE);
    let done = Restore::new().connections(2).files(&uri(&server), &options(), &files).unwrap();
    drop(server);
    assert!(scene.disk.is_identical(&target));
    assert_eq!(done.copied, files.contents().iter().map(|stream| stream.summary().data).sum::<u64>());

    // the same one by one, of readers that cannot seek
    let (target, server) = scene.target(SIZE);
    for (file, base) in chain.iter().zip([None, Some("sunday".to_owned())]) {
        let restore = Restore::new().base(base);
        let mut begun = 0;
        let connected = restore.connect(&uri(&server), &options()).unwrap();
        let stream = fs::File::open(file).unwrap().take(u64::MAX);
        restore.write_stream(connected, stream, |meta| begun = meta.virtual_size).unwrap();
        assert_eq!(begun, SIZE);
    }
    drop(server);
    assert!(scene.disk.is_identical(&target));
}

#[test]
fn an_incremental_alone_has_one_fact_that_is_not_checked() {
    if !require_qemu() {
        return;
    }
    let (_scene, chain) = Scene::new().with_chain();
    let files = BackupFiles::read(vec![chain[1].clone()]).unwrap();
    assert_eq!(files.verify().unwrap(), [[UncheckedFact::Parent]]);
    // below a base nothing is left open that the caller has not vouched for
    let restore = Restore::new().base(Some("sunday".into()));
    assert_eq!(restore.check(&files).unwrap().unchecked(), [vec![]]);
}

#[test]
fn a_backup_that_cannot_be_made_says_why_and_leaves_the_file() {
    if !require_qemu() {
        return;
    }
    let (scene, chain) = Scene::new().with_chain();
    let new = scene.path("new");
    let before = b"meta 0000000000000000 0000000000000002\r\n{}\r\nas it was";
    fs::write(&new, before).unwrap();
    let server = Server::qemu_nbd(&scene.disk, &["b"]);
    let fails = |backup: Backup, uri: &Uri| {
        let error = backup.to_file(uri, &options(), &new).unwrap_err();
        assert_eq!(fs::read(&new).unwrap(), before, "{error}");
        error
    };
    let read = || Parent::read(&chain[0]).unwrap();
    let by_hand = |size| Parent::by_hand(Some("sunday".into()), size);
    let on = |parent| fails(Backup::incremental(["b"], parent), &uri(&server));

    let same = Backup::incremental(["b"], read()).checkpoint(Some("sunday".into()));
    assert!(matches!(fails(same, &uri(&server)), BackupError::SameCheckpoint { name } if name == "sunday"));
    assert!(matches!(on(by_hand(None).may_have_grown()), BackupError::UnknownSize));
    let changed = BaselineError::SizeChanged { baseline: MIB, export: SIZE };
    assert!(matches!(on(by_hand(Some(MIB))), BackupError::Baseline(error) if error == changed));
    let none = Backup::incremental(Vec::<String>::new(), read());
    assert!(matches!(fails(none, &uri(&server)), BackupError::Baseline(BaselineError::NoBitmap)));
    let other = fails(Backup::incremental(["other"], read()), &uri(&server));
    assert!(
        matches!(&other, BackupError::Connect(error) if error.class() == ErrorClass::NotThere),
        "{other}"
    );
    let replaces = Backup::incremental(["b"], read()).to_file(&uri(&server), &options(), &chain[0]);
    assert!(matches!(replaces, Err(BackupError::Output(OutputError::ReplacesParent))));

    let image = scene.path("image");
    fs::write(&image, "QFI").unwrap();
    let lost = Backup::full().to_file(&uri(&server), &options(), &image);
    assert!(matches!(lost, Err(BackupError::Output(OutputError::NotABackup { path })) if path == image));
    assert_eq!(fs::read(&image).unwrap(), b"QFI");

    let canceller = Canceller::new();
    canceller.cancel();
    let cancelled = Backup::full().survey(&uri(&server), &options().canceller(canceller)).unwrap_err();
    assert!(
        matches!(&cancelled, BackupError::Connect(SurveyorError::Client(Error::Cancelled { .. }))),
        "{cancelled}"
    );
    drop(server);
    let server = Server::qemu_nbd_writable(&scene.disk, &[]);
    assert!(matches!(fails(Backup::full(), &uri(&server)), BackupError::Writable));
    let report = Backup::full().allow_writable(true).to_file(&uri(&server), &options(), &new).unwrap();
    assert_eq!(report.totals.sum(), SIZE);
}

/// An output that takes this many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_is_full_ends_the_backup_with_its_reason() {
    if !require_qemu() {
        return;
    }
    let scene = Scene::new();
    let server = Server::qemu_nbd(&scene.disk, &[]);
    for room in [0, 100, 1 << 20, (2 << 20) + 200] {
        let disk = Backup::full().survey(&uri(&server), &options()).unwrap();
        let monitor = disk.monitor();
        let error = disk.write(Full(room)).err().expect("it has no room");
        assert!(
            matches!(&error, BackupError::Write(error) if error.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
        assert!(monitor.progress().copied <= 2 * MIB);
    }
}

/// Restores files in one call.
fn restore(files: &[PathBuf], server: &Server) -> Result<(), RestoreError> {
    let files = BackupFiles::read(files.to_vec())?;
    Restore::new().files(&uri(server), &options(), &files).map(drop)
}

#[test]
fn a_target_that_does_not_fit_is_as_it_was() {
    if !require_qemu() {
        return;
    }
    let (scene, chain) = Scene::new().with_chain();
    let (target, server) = scene.target(SIZE - 512);
    let error = restore(&chain, &server).unwrap_err();
    assert!(
        matches!(error, RestoreError::TooSmall { target, disk: SIZE } if target == SIZE - 512),
        "{error}"
    );
    let restore_stream = |restore: Restore, file: &Path| {
        let connected = restore.connect(&uri(&server), &options()).unwrap();
        let begun = |meta: &Meta| panic!("{meta:?} was taken");
        restore.write_stream(connected, fs::File::open(file).unwrap(), begun).unwrap_err()
    };
    let error = restore_stream(Restore::new(), &chain[0]);
    assert!(matches!(error, RestoreError::TooSmall { .. }), "{error}");
    assert!(matches!(restore_stream(Restore::new(), &chain[1]), RestoreError::Chain(_)));
    let zero = Restore::new().target_is_zero(true);
    assert!(matches!(restore_stream(zero, &chain[1]), RestoreError::NeedsPrevious));
    drop(server);
    assert!(fs::read(&target.path).unwrap().iter().all(|&byte| byte == 0x5a), "nothing was written");

    let read_only = Server::qemu_nbd(&scene.disk, &[]);
    let error = Restore::new().connect(&uri(&read_only), &options()).unwrap_err();
    assert!(matches!(error, RestoreError::ReadOnly));
}

/// A file can be replaced between the check and the write. The error says so, and whether the target
/// was written to.
#[test]
fn a_file_that_changes_after_its_check_is_refused() {
    if !require_qemu() {
        return;
    }
    let (scene, chain) = Scene::new().with_chain();
    let checked = BackupFiles::read(chain.clone()).unwrap();
    let run = || {
        let (_target, server) = scene.target(SIZE);
        Restore::new().files(&uri(&server), &options(), &checked).unwrap_err()
    };
    let changed = |error: &RestoreError, nth: usize| {
        let RestoreError::Files(FilesError::Changed { file }) = error else { return false };
        *file == chain[nth]
    };
    let whole = fs::read(&chain[1]).unwrap();
    fs::copy(&chain[0], &chain[1]).unwrap();
    let error = run();
    assert!(matches!(&error, RestoreError::Partial(error) if changed(error, 1)), "{error}");
    assert!(error.to_string().ends_with(RestoreError::PARTIAL), "{error}");
    fs::write(&chain[1], &whole[..whole.len() - 1]).unwrap();
    let error = run();
    let is_cut = |error: &RestoreError| matches!(error, RestoreError::Files(FilesError::Stream { .. }));
    assert!(matches!(&error, RestoreError::Partial(error) if is_cut(error)), "{error}");
    fs::copy(&chain[1], &chain[0]).unwrap();
    let error = run();
    assert!(changed(&error, 0), "before the first write: {error}");
    fs::remove_file(&chain[0]).unwrap();
    assert!(matches!(run(), RestoreError::Files(FilesError::Open { .. })));
}

#[test]
fn a_full_target_is_of_the_class_that_blames_nobody() {
    if !require(&["nbdkit", "qemu-nbd", "qemu-img", "qemu-io"]) {
        return;
    }
    let (_scene, chain) = Scene::new().with_chain();
    let server = Server::nbdkit_writable(
        &["--filter=error"],
        &["memory", "8M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%"],
    );
    let error = restore(&chain, &server).unwrap_err();
    let RestoreError::Partial(error) = error else { panic!("{error}") };
    let is_full = |error: &Error| error.class() == ErrorClass::Other;
    assert!(matches!(&*error, RestoreError::Target { error, .. } if is_full(error)), "{error}");
}
