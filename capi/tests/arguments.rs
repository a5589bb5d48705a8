//! Every function of the header with one bad argument at a time: NULL, memory at an odd address, an
//! unknown name, the largest number. Each such call must fail with a message, except where [`FINE`] says
//! that the largest number means something.
//!
//! The calls are made out of the header's prototypes, so that none can be forgotten, and stand in
//! `tests/c/arguments.c`, which `ci/capi` runs under valgrind and AddressSanitizer as well. What needs a
//! story, such as calls in the wrong order, is in `tests/c/misuse.c`.

mod support;

use std::path::Path;

use support::{HEADER, Linking, declarations, run};

/// Arguments whose largest number is a good one: limits without a limit, flags, sets, and places in a map
/// where there is nothing.
const FINE: [(&str, &str); 16] = [
    ("nbdx_map_actions", "from"),
    ("nbdx_map_diff", "from"),
    ("nbdx_map_get", "offset"),
    ("nbdx_map_new", "bitmaps"),
    ("nbdx_map_read", "from"),
    ("nbdx_options_budget", "bytes"),
    ("nbdx_options_in_flight", "requests"),
    ("nbdx_options_max_entries", "pairs"),
    ("nbdx_options_max_request", "bytes"),
    ("nbdx_options_optional", "granted"),
    ("nbdx_plan_join_gaps", "bytes"),
    ("nbdx_plan_max_copy", "bytes"),
    ("nbdx_plan_max_zero", "bytes"),
    ("nbdx_policy_full", "onto_zeroes"),
    ("nbdx_policy_incremental", "allow_grown"),
    ("nbdx_policy_incremental", "bitmaps"),
];

/// The kinds of parameters in C, by the ways in which they can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An object of the library: its type without `nbdx_`.
    Object(&'static str),
    Name,
    Names,
    /// Memory that is read or written.
    Memory,
    /// A number, by its largest value.
    Number(&'static str),
}

#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    kind: Kind,
}

/// A function of the header.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    /// The type of the object that it makes, without `nbdx_`; `None` if it returns a number.
    makes: Option<String>,
    parameters: Vec<Parameter>,
}

const OBJECTS: [&str; 5] = ["map", "options", "plan", "policy", "survey"];

impl Parameter {
    fn parse(declaration: &str) -> Self {
        let at = declaration.rfind([' ', '*']).unwrap() + 1;
        let (kind, name) = declaration.split_at(at);
        let kind = kind.replace("const ", "");
        let object = |kind: &str| {
            let name = kind.strip_prefix("nbdx_")?.strip_suffix(" *")?;
            OBJECTS.into_iter().find(|object| *object == name)
        };
        let kind = match kind.trim() {
            "char *" => Kind::Name,
            "char *const *" => Kind::Names,
            "uint64_t" => Kind::Number("UINT64_MAX"),
            "uint32_t" => Kind::Number("UINT32_MAX"),
            "size_t" => Kind::Number("SIZE_MAX"),
            "int" => Kind::Number("INT_MAX"),
            pointer if pointer.ends_with('*') => object(pointer).map_or(Kind::Memory, Kind::Object),
            other => panic!("what can be wrong about the type {other}?"),
        };
        Self { name: name.to_owned(), kind }
    }

    /// An argument that nothing is wrong with.
    fn good(&self) -> String {
        match self.kind {
            Kind::Object(object) => format!("o.{object}"),
            Kind::Name => "known[0]".into(),
            Kind::Names => "known".into(),
            Kind::Memory => "SPACE".into(),
            // a count of numbers that come in pairs
            Kind::Number(_) if self.name == "nr_entries" => "2".into(),
            Kind::Number(_) => "1".into(),
        }
    }

    /// Bad arguments, each with a part of the message.
    fn bad(&self) -> Vec<(&'static str, &'static str)> {
        match self.kind {
            Kind::Object(_) => vec![("NULL", " is NULL")],
            Kind::Name => vec![
                ("NULL", " is NULL"),
                ("unknown[0]", "base:unknown"),
                ("\"\"", ""),
                ("\"qemu:dirty-bitmap:\\xff\"", "not UTF-8"),
            ],
            Kind::Names => {
                vec![("NULL", " is NULL"), ("UNALIGNED", "not aligned"), ("unknown", "base:unknown")]
            }
            Kind::Memory => vec![("NULL", " is NULL"), ("UNALIGNED", "not aligned")],
            Kind::Number(largest) => vec![(largest, "")],
        }
    }
}

impl Function {
    /// Parses a prototype; `None` for anything else, and for functions that cannot fail.
    fn parse(declaration: &str) -> Option<Self> {
        let (before, parameters) = declaration.strip_suffix(')')?.split_once('(')?;
        let (returned, name) = before.split_at(before.rfind([' ', '*'])? + 1);
        let fails = returned.contains("int") || returned.contains("ssize_t") || returned.contains("nbdx_");
        if !name.starts_with("nbdx_") || !fails {
            return None;
        }
        let makes = returned.trim().strip_prefix("nbdx_").and_then(|made| made.strip_suffix(" *"));
        let parameters = parameters.split(", ").filter(|parameter| *parameter != "void");
        Some(Self {
            name: name.to_owned(),
            makes: makes.map(str::to_owned),
            parameters: parameters.map(Parameter::parse).collect(),
        })
    }

    /// The calls with one bad argument each, as lines of C.
    fn calls(&self) -> String {
        let mut lines = format!("\nstatic void {}_(void)\n{{\n", self.name);
        for (at, parameter) in self.parameters.iter().enumerate() {
            for (bad, part) in parameter.bad() {
                let arguments: Vec<_> = self.parameters.iter().map(Parameter::good).collect();
                let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                arguments[at] = bad;
                let call = format!("{}({})", self.name, arguments.join(", "));
                let fine = FINE.contains(&(&self.name, &parameter.name));
                let line = match (fine, &self.makes) {
                    (false, None) => format!("REFUSED({call} == -1, \"{part}\");"),
                    (false, Some(_)) => format!("REFUSED({call} == NULL, \"{part}\");"),
                    (true, None) => format!("ACCEPTED({call} != -1);"),
                    (true, Some(made)) => format!("ACCEPTED(MADE({made}, {call}));"),
                };
                lines += &format!("    {line}\n");
            }
        }
        lines + "}\n"
    }
}

/// The whole program.
fn program() -> String {
    let functions: Vec<_> = declarations(HEADER).iter().filter_map(|text| Function::parse(text)).collect();
    assert!(functions.len() > 45, "{functions:#?}");
    let functions = functions.into_iter().filter(|function| !function.parameters.is_empty());
    let mut program = String::from(
        "/* Every function of the header with one bad argument at a time. Made by \
            tests/arguments.rs, which\n \
         * says how to make it anew. */\n#include <limits.h>\n\n#include \"objects.h\"\n",
    );
    let mut main = String::from("\nint main(void)\n{\n");
    for function in functions {
        program += &function.calls();
        main += &format!("    {}_();\n", function.name);
    }
    program + &main + "    return 0;\n}\n"
}

/// `WRITE=1 cargo test -p nbd-extents-capi --test arguments` writes the program anew.
#[test]
fn the_program_is_that_of_the_header() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/arguments.c");
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, program()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == program(), "the header has changed: WRITE=1 writes {}", path.display());
}

#[test]
fn a_bad_argument_is_an_error_with_a_message() {
    run("arguments.c", Linking::Shared, &[]);
}
