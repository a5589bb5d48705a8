//! `--info`: what the handshake found out, for people and, with `--json`, for scripts.

use std::io::{self, Write};

use nbd_client::{Export, Headers, ServerText};

use crate::cli::Shape;
use crate::common::args::human;

pub(crate) fn write(export: &Export, shape: Shape, out: &mut impl Write) -> io::Result<()> {
    match shape {
        Shape::Table => text(export, out),
        Shape::Json => json(export, out),
    }
}

fn text(export: &Export, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "export        {:?}", export.name)?;
    if let Some(description) = &export.description {
        writeln!(out, "description   {}", ServerText::new(description.as_bytes()))?;
    }
    writeln!(out, "size          {} ({})", export.size, human(export.size))?;
    match export.block_size {
        Some(sizes) => {
            let (minimum, preferred, maximum) = (sizes.minimum(), sizes.preferred(), sizes.maximum());
            writeln!(out, "block sizes   minimum {minimum}, preferred {preferred}, maximum {maximum}")?;
        }
        None => writeln!(out, "block sizes   not announced")?,
    }
    writeln!(out, "flags         {}", flags(export).join(" "))?;
    writeln!(out, "headers       {}", headers(export))?;
    for context in offered(export) {
        writeln!(out, "context       {context}")?;
    }
    Ok(())
}

fn json(export: &Export, out: &mut impl Write) -> io::Result<()> {
    let sizes = export.block_size.map(|sizes| {
        serde_json::json!({
            "minimum": sizes.minimum(), "preferred": sizes.preferred(), "maximum": sizes.maximum()
        })
    });
    let info = serde_json::json!({
        "export": export.name,
        "size": export.size,
        "block_size": sizes,
        "flags": flags(export),
        "headers": headers(export),
        "contexts": offered(export),
    });
    writeln!(out, "{info}")
}

fn headers(export: &Export) -> &'static str {
    match export.headers {
        Headers::Simple => "simple",
        Headers::Structured => "structured",
        Headers::Extended => "extended",
    }
}

/// What the server lists; where it lists nothing, what it granted.
fn offered(export: &Export) -> Vec<String> {
    let granted = export.contexts.iter().map(|context| &context.name);
    let names: Vec<&String> = match &export.offered {
        Some(offered) => offered.iter().collect(),
        None => granted.collect(),
    };
    names.into_iter().map(|name| ServerText::new(name.as_bytes()).to_string()).collect()
}

fn flags(export: &Export) -> Vec<&'static str> {
    let flags = export.flags;
    [
        (flags.is_read_only(), "read-only"),
        (!flags.is_read_only(), "writable"),
        (flags.send_flush(), "flush"),
        (flags.send_fua(), "fua"),
        (flags.is_rotational(), "rotational"),
        (flags.send_trim(), "trim"),
        (flags.send_write_zeroes(), "write-zeroes"),
        (flags.send_df(), "df"),
        (flags.can_multi_conn(), "multi-conn"),
        (flags.send_cache(), "cache"),
        (flags.send_fast_zero(), "fast-zero"),
        (flags.block_status_payload(), "block-status-payload"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}
