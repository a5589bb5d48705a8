//! Disk images, made from a list of steps by `qemu-img` and one `qemu-io` per stretch of writes.

use core::fmt::Write as _;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{finish, succeed};

/// Generous: on a busy machine the 150,000 writes of the large image take a while.
const LIMIT: Duration = Duration::from_secs(300);

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// One thing that happens to an image. Offsets and lengths are bytes.
#[derive(Clone, Debug)]
pub enum Step {
    /// Data, never zeroes.
    Write { at: u64, length: u64 },
    /// Data, all of this byte, so that a rewrite leaves a trace.
    Fill { at: u64, length: u64, byte: u8 },
    /// Zero clusters that stay allocated (`write -z`).
    Zero { at: u64, length: u64 },
    /// Zero clusters that give their space back (`write -z -u`).
    ZeroUnmap { at: u64, length: u64 },
    /// A guest's TRIM.
    Discard { at: u64, length: u64 },
    /// A persistent dirty bitmap that records what the steps after it touch.
    Bitmap { name: &'static str, granularity: u64 },
    /// A disk that grows or shrinks, its bitmaps with it.
    Resize { size: u64 },
    /// The end of a bitmap's recording, as a backup does with the bitmap of its checkpoint.
    Freeze { name: &'static str },
}

impl Step {
    pub fn bitmap(name: &'static str) -> Self {
        Self::Bitmap { name, granularity: 64 * KIB }
    }

    /// The command for qemu-io, or None for a step that qemu-img makes.
    fn io(&self) -> Option<String> {
        match *self {
            Self::Write { at, length } => Some(format!("write -q -P 0x5a {at} {length}")),
            Self::Fill { at, length, byte } => Some(format!("write -q -P {byte} {at} {length}")),
            Self::Zero { at, length } => Some(format!("write -q -z {at} {length}")),
            Self::ZeroUnmap { at, length } => Some(format!("write -q -z -u {at} {length}")),
            Self::Discard { at, length } => Some(format!("discard -q {at} {length}")),
            Self::Bitmap { .. } | Self::Freeze { .. } | Self::Resize { .. } => None,
        }
    }
}

/// How an image is made.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub format: ImageFormat,
    pub size: u64,
    pub backing: Option<Box<Self>>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    Raw,
    Qcow2 { cluster: u64 },
}

impl ImageFormat {
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 { .. } => "qcow2",
        }
    }
}

/// An image in a folder that outlives it.
#[derive(Clone, Debug)]
pub struct Image {
    pub path: PathBuf,
    pub format: ImageFormat,
}

impl Recipe {
    pub fn qcow2(cluster: u64, size: u64, steps: Vec<Step>) -> Self {
        Self { format: ImageFormat::Qcow2 { cluster }, size, backing: None, steps }
    }

    pub fn raw(size: u64, steps: Vec<Step>) -> Self {
        Self { format: ImageFormat::Raw, size, backing: None, steps }
    }

    pub fn over(self, backing: Self) -> Self {
        Self { backing: Some(Box::new(backing)), ..self }
    }

    /// Makes the image, and what it is backed by, in `folder`.
    pub fn make(&self, folder: &Path) -> Image {
        self.make_as(folder, "disk")
    }

    fn make_as(&self, folder: &Path, name: &str) -> Image {
        let backing = self.backing.as_ref().map(|under| under.make_as(folder, &format!("{name}-base")));
        let image = Image { path: folder.join(name), format: self.format };
        self.create(&image, backing.as_ref());
        image.apply(&self.steps);
        image
    }

    fn create(&self, image: &Image, backing: Option<&Image>) {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", self.format.name()]);
        if let ImageFormat::Qcow2 { cluster } = self.format {
            command.args(["-o", &format!("cluster_size={cluster}")]);
        }
        if let Some(backing) = backing {
            command.arg("-b").arg(&backing.path).args(["-F", backing.format.name()]);
        }
        command.arg(&image.path).arg(self.size.to_string());
        succeed(&mut command, "", LIMIT);
    }
}

impl Image {
    /// Does what the steps say, in order.
    pub fn apply(&self, steps: &[Step]) {
        let mut script = String::new();
        for step in steps {
            match step.io() {
                Some(line) => writeln!(script, "{line}").expect("write to a string"),
                None => {
                    self.play(&core::mem::take(&mut script));
                    self.change(step);
                }
            }
        }
        self.play(&script);
    }

    /// A copy of the image's file as it is now.
    pub fn copy(&self, name: &str) -> Self {
        let path = self.path.with_file_name(name);
        std::fs::copy(&self.path, &path).expect("copy an image");
        Self { path, format: self.format }
    }

    /// The contents of both disks are the same, as far as both reach, and zero beyond.
    pub fn is_identical(&self, other: &Self) -> bool {
        let mut command = Command::new("qemu-img");
        command.args(["compare", "-q", "-f", self.format.name(), "-F", other.format.name()]);
        let done = finish(command.arg(&self.path).arg(&other.path), "", LIMIT);
        match done.status.code() {
            Some(0) => true,
            Some(1) => false,
            _ => panic!("qemu-img compare: {done:?}"),
        }
    }

    /// Runs a script in one qemu-io. Unsafe is the name of a cache mode that never calls fsync.
    ///
    /// qemu-io can fail a command and still end with status 0, so whatever it says beside its
    /// prompt fails the test: every command of ours is quiet.
    fn play(&self, script: &str) {
        if script.is_empty() {
            return;
        }
        let mut command = Command::new("qemu-io");
        command.args(["--cache=unsafe", "-f", self.format.name()]).arg(&self.path);
        let done = succeed(&mut command, script, LIMIT);
        let said = done.stdout.replace("qemu-io> ", "");
        assert!(said.trim().is_empty() && done.stderr.is_empty(), "qemu-io: {said}{}", done.stderr);
    }

    /// Takes a step that qemu-img makes: about a bitmap, or the size.
    fn change(&self, step: &Step) {
        let mut command = Command::new("qemu-img");
        if let Step::Resize { size } = step {
            command.args(["resize", "-q", "-f", self.format.name()]).arg(&self.path).arg(size.to_string());
            succeed(&mut command, "", LIMIT);
            return;
        }
        command.arg("bitmap");
        let name = match step {
            Step::Bitmap { name, granularity } => {
                command.args(["--add", "-g", &granularity.to_string()]);
                name
            }
            Step::Freeze { name } => {
                command.arg("--disable");
                name
            }
            _ => return,
        };
        succeed(command.arg(&self.path).arg(name), "", LIMIT);
    }
}
