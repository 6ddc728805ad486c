//! Text of others, made fit for an error.

/// Longest text in characters; a service's message is a sentence or two.
const MAX_CHARS: usize = 380;

/// Digits of base64 or hex in a row from which on they are taken for a secret: a key of 32 bytes has 44 or 64,
/// and the ids in messages have at most 32.
const SECRET_LEN: usize = 40;

/// The text on one line, without control characters, and cut where it is long.
#[must_use]
pub fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let line: String = words
        .join(" ")
        .chars()
        .filter(|letter| !letter.is_control())
        .collect();
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The text without anything that could be key material or a token: what looks like 40 digits of base64 or hex in a
/// row becomes `[hidden]`. (A long path, such as Cloud KMS' names of keys, does too.)
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut cleaned = String::new();
    let mut run = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=') {
            run.push(letter);
        } else {
            append(&mut cleaned, &run);
            run.clear();
            cleaned.push(letter);
        }
    }
    append(&mut cleaned, &run);
    cleaned
}

fn append(cleaned: &mut String, run: &str) {
    if run.len() < SECRET_LEN {
        cleaned.push_str(run);
    } else {
        cleaned.push_str("[hidden]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_service_is_kept() {
        for message in [
            "User: arn:aws:iam::111122223333:user/app is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "Key 'arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab' does not exist",
        ] {
            assert_eq!(one_line(&without_secrets(message)), message);
        }
    }

    #[test]
    fn what_could_be_a_secret_is_left_out() {
        let base64 = "c2VjcmV0IGtleSBvZiAzMiBieXRlcywgaW4gYmFzZTY0LiA=";
        assert_eq!(
            without_secrets(&format!("can't read \"{base64}\" here")),
            "can't read \"[hidden]\" here"
        );
        assert_eq!(without_secrets(&"0f".repeat(20)), "[hidden]");
    }

    #[test]
    fn a_long_text_is_cut_and_control_characters_are_dropped() {
        let long = one_line(&"é ".repeat(1000));
        assert_eq!(long.chars().count(), MAX_CHARS + 1);
        assert_eq!(one_line("a\u{1b}[31mb"), "a[31mb");
        assert_eq!(one_line("1 error:\n\t* no\n\n"), "1 error: * no");
    }
}
