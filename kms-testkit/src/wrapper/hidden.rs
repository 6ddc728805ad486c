//! Looking for secrets in text.

use std::fmt::Write as _;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Panics if `text` holds the secret as text, hex, base64 or a list of numbers.
///
/// # Panics
///
/// As said; the message does not repeat the secret. Also for a secret under four bytes, which would be found
/// by chance.
pub fn assert_hidden(secret: &[u8], text: &str) {
    assert!(secret.len() >= 4, "a secret too short to look for");
    let found = forms(secret)
        .into_iter()
        .find(|(_, form)| squeezed(text).contains(&squeezed(form)));
    if let Some((form, _)) = found {
        panic!("a secret shows as {form}");
    }
}

fn forms(secret: &[u8]) -> Vec<(&'static str, String)> {
    let hex = secret.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let standard = base64(secret);
    let mut forms = vec![
        ("upper-case hex", hex.to_uppercase()),
        ("hex", hex),
        (
            "url-safe base64",
            standard.replace('+', "-").replace('/', "_"),
        ),
        ("base64", standard),
        (
            "a list of numbers",
            format!("{secret:?}").trim_matches(['[', ']']).to_owned(),
        ),
        ("escaped bytes", secret.escape_ascii().to_string()),
    ];
    if let Ok(text) = str::from_utf8(secret) {
        forms.push(("text", text.to_owned()));
    }
    forms
}

/// Without white space, which `{:#?}` puts between numbers.
fn squeezed(text: &str) -> String {
    text.split_whitespace()
        .collect::<String>()
        .replace(",]", "]")
}

/// Without padding, and without the last character where it also depends on what follows.
fn base64(bytes: &[u8]) -> String {
    bytes
        .chunks_exact(3)
        .flat_map(|three| {
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            [18, 12, 6, 0].map(|shift| char::from(BASE64[(bits >> shift & 63) as usize]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"hunter2 is\xfb\xff no secret";

    #[test]
    fn text_without_the_secret_passes() {
        assert_hidden(SECRET, "hunter3 [1, 2, 3] Wrapper { .. }");
    }

    #[test]
    fn each_form_of_the_secret_is_found() {
        let shown = [
            format!("{SECRET:?}"),
            format!("{SECRET:#?}"),
            "68756e746572322069 73fbff206e6f20736563726574".to_owned(),
            "68756E74657232206973FBFF206E6F20736563726574".to_owned(),
            "aHVudGVyMiBpc/v/IG5vIHNlY3JldA==".to_owned(),
            "aHVudGVyMiBpc_v_IG5vIHNlY3JldA".to_owned(),
            SECRET.escape_ascii().to_string(),
        ];
        for text in shown {
            let result = std::panic::catch_unwind(|| assert_hidden(SECRET, &text));
            assert!(result.is_err(), "not found in {text}");
        }
    }
}
