//! The judge is serde_json: it accepts what we accept, and its values are ours.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// All tokens of a text that comes in pieces of `piece` bytes, as text; the error's words at the end if there is one.
fn tokens(text: &[u8], piece: usize) -> Result<Vec<String>, ReadError> {
    let mut tokens = Tokens::one();
    let mut all = Vec::new();
    for mut bytes in text.chunks(piece.max(1)) {
        while let Some(lexed) = tokens.next(&mut bytes)? {
            all.push(format!("{:?}", lexed));
        }
        assert!(bytes.is_empty(), "all is taken");
    }
    while let Some(lexed) = tokens.end()? {
        all.push(format!("{:?}", lexed));
    }
    Ok(all)
}

/// The same value from our tokens, unless a text is longer than what is kept.
fn value(text: &[u8]) -> Result<Option<Value>, ReadError> {
    let mut tokens = Tokens::one();
    let mut stack: Vec<(Value, Option<String>)> = Vec::new();
    let mut done = None;
    let mut whole = true;
    let mut input = text;
    let mut ended = false;
    loop {
        let next = if ended { tokens.end()? } else { tokens.next(&mut input)? };
        let Some(lexed) = next else {
            if ended {
                return Ok(done.filter(|_| whole));
            }
            ended = true;
            continue;
        };
        let mut text = |kept: Kept<'_>| {
            whole &= kept.whole;
            kept.text.to_string()
        };
        let value = match lexed.token {
            Token::BeginObject => {
                stack.push((Value::Object(serde_json::Map::new()), None));
                continue;
            }
            Token::BeginArray => {
                stack.push((Value::Array(Vec::new()), None));
                continue;
            }
            Token::Key(key) => {
                stack.last_mut().unwrap().1 = Some(text(key));
                continue;
            }
            Token::EndObject | Token::EndArray => stack.pop().unwrap().0,
            Token::Text(kept) => Value::String(text(kept)),
            // a whole number is ours to read, a fraction no format asks for
            Token::Number(kept) => {
                let number = text(kept);
                number
                    .parse::<u64>()
                    .map_or_else(|_| serde_json::from_str(&number).unwrap_or(Value::Null), Value::from)
            }
            Token::Bool(value) => Value::Bool(value),
            Token::Null => Value::Null,
        };
        match stack.last_mut() {
            Some((Value::Array(list), _)) => list.push(value),
            Some((Value::Object(map), key)) => {
                map.insert(key.take().unwrap(), value);
            }
            _ => done = Some(value),
        }
    }
}

/// Whether serde_json's refusal is about a limit that it has and we have not, or the other way round.
fn differs_on_purpose(text: &[u8], theirs: &Result<Value, serde_json::Error>) -> bool {
    let deep = value(text).is_err_and(|error| matches!(error.fault, Fault::TooDeep { .. }));
    deep || theirs.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range"))
}

fn agree(text: &[u8]) {
    let theirs: Result<Value, _> = serde_json::from_slice(text);
    if differs_on_purpose(text, &theirs) {
        return;
    }
    match (value(text), theirs) {
        (Ok(Some(ours)), Ok(theirs)) => assert_eq!(ours, theirs, "{:?}", String::from_utf8_lossy(text)),
        (Ok(None), Ok(_)) | (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{:?}: {ours:?}, serde_json {theirs:?}", String::from_utf8_lossy(text)),
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e6..1e6).prop_map(|number: f64| Value::from(number)),
        "\\PC{0,12}".prop_map(Value::from),
        any::<Vec<char>>().prop_map(|text| Value::from(text.into_iter().collect::<String>())),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-z_\"\\\\é😀]{0,8}", inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn values_are_those_of_serde_json(value in json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        agree(text.as_bytes());
    }

    #[test]
    fn what_is_broken_for_serde_json_is_broken_here(
        value in json(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        const TELLING: &[u8] = b"{}[],:\"\\u0eE+-.19tfn \n\x00\x1f\x80\xc3\xed\xf4";
        let mut text = serde_json::to_vec(&value).unwrap();
        for (at, byte, how) in changes {
            let byte = if how < 3 { TELLING[usize::from(byte) % TELLING.len()] } else { byte };
            let at = at.index(text.len() + 1);
            match how {
                0 => text.truncate(at),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at < text.len() => text[at] = byte,
                _ => text.insert(at, byte),
            }
        }
        agree(&text);
    }

    #[test]
    fn pieces_make_no_difference(value in json(), cut in 0..200_usize, piece in 1..9_usize) {
        let mut text = serde_json::to_vec(&value).unwrap();
        text.truncate(text.len().saturating_sub(cut % 50));
        prop_assert_eq!(tokens(&text, piece), tokens(&text, usize::MAX));
    }
}

#[track_caller]
fn fault(text: &str, byte: u64, line: u64, words: &str) {
    let error = tokens(text.as_bytes(), usize::MAX).unwrap_err();
    assert_eq!((error.at.byte, error.at.line, error.fault.to_string().as_str()), (byte, line, words));
}

#[test]
fn errors_name_the_byte_and_the_line() {
    fault("[1,\n 2,\n x]", 9, 3, "'x' where a value should be");
    fault("[1,]", 3, 1, "']' where a value should be");
    fault("{\"a\" 1}", 5, 1, "'1' where ':' should be");
    fault("[01]", 2, 1, "'1' where ',' or the end of the list or object should be");
    fault("{\"a\":1", 6, 1, "the input ends where ',' or the end of the list or object should be");
    fault("[tru", 4, 1, "the input ends where true should be");
    fault("[\"a\nb\"]", 3, 1, "the end of the line where text should be");
    fault("[\"\\ud800x\"]", 8, 1, "the text is not Unicode");
    fault("[1] 2", 4, 1, "'2' where nothing should be");
    fault("\u{feff}[]", 0, 1, "the byte 0xef where a value should be");
    fault("[[[[[[[[[[[[[[[[[", 16, 1, "arrays and objects are more than 16 deep");
}

#[test]
fn whole_numbers_are_exact() {
    assert_eq!(
        value(b"[18446744073709551615, 9007199254740993]").unwrap(),
        serde_json::from_str("[18446744073709551615, 9007199254740993]").ok()
    );
}

#[test]
fn long_texts_are_read_and_not_kept() {
    let text = format!("[\"{}\"]", "x".repeat(1000));
    let mut tokens = Tokens::one();
    let mut input = text.as_bytes();
    assert!(tokens.next(&mut input).unwrap().is_some());
    let lexed = tokens.next(&mut input).unwrap().unwrap();
    assert!(matches!(lexed.token, Token::Text(kept) if kept.known().is_none()));
    assert!(size_of::<Tokens>() <= 160);
}
