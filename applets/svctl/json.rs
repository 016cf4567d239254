//! Writes JSON. Names and other texts of somebody else are escaped first, see [`escaped`].

use super::text::escaped;

/// A JSON object that is being written.
#[derive(Debug)]
pub(super) struct Object<'o> {
    out: &'o mut String,
    is_empty: bool,
}

/// Writes an object.
pub(super) fn object(out: &mut String, fill: &mut dyn FnMut(&mut Object<'_>)) {
    out.push('{');
    fill(&mut Object { out, is_empty: true });
    out.push('}');
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        string(self.out, name);
        self.out.push(':');
    }

    /// A text of ours.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        string(self.out, value);
    }

    /// A text of somebody else.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        self.text(name, &escaped(value));
    }

    /// A number that is not negative.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.out.push_str(&value.to_string());
    }

    /// A number of seconds, with their thousandths.
    pub(super) fn seconds(&mut self, name: &str, value: std::time::Duration) {
        self.name(name);
        self.out.push_str(&format!("{}.{:03}", value.as_secs(), value.subsec_millis()));
    }

    /// Yes or no.
    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.push_str(if value { "true" } else { "false" });
    }

    /// An object in this one.
    pub(super) fn object(&mut self, name: &str, fill: &mut dyn FnMut(&mut Object<'_>)) {
        self.name(name);
        object(self.out, fill);
    }

    /// A list of objects.
    pub(super) fn objects<T>(
        &mut self,
        name: &str,
        list: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Object<'_>, T),
    ) {
        self.name(name);
        self.out.push('[');
        let mut is_first = true;
        for item in list {
            if !std::mem::take(&mut is_first) {
                self.out.push(',');
            }
            self.out.push('{');
            fill(&mut Object { out: &mut *self.out, is_empty: true }, item);
            self.out.push('}');
        }
        self.out.push(']');
    }

    /// A list of texts of somebody else.
    pub(super) fn list(&mut self, name: &str, list: &[Vec<u8>]) {
        self.name(name);
        self.out.push('[');
        for (number, item) in list.iter().enumerate() {
            if number > 0 {
                self.out.push(',');
            }
            string(self.out, &escaped(item));
        }
        self.out.push(']');
    }
}

/// Writes a string of JSON.
fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    while let Some((plain, special)) =
        rest.bytes().position(is_special).and_then(|at| rest.split_at_checked(at))
    {
        out.push_str(plain);
        let mut letters = special.chars();
        match letters.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some(letter) => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            None => {}
        }
        rest = letters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written() {
        let mut out = String::new();
        object(&mut out, &mut |object| {
            object.bytes("name", b"a\"\\\xff\n");
            object.number("n", 7);
            object.boolean("up", true);
            object.seconds("for", std::time::Duration::from_millis(1005));
            object.object("log", &mut |log| log.text("state", "run"));
            object.objects("all", [1, 2], |object, value| object.number("n", value));
            object.list("command", &[b"a b".to_vec(), b"c".to_vec()]);
        });
        let expected = concat!(
            r#"{"name":"a\"\\\\\\xff\\x0a","n":7,"up":true,"for":1.005,"log":{"state":"run"},"#,
            r#""all":[{"n":1},{"n":2}],"command":["a b","c"]}"#
        );
        assert_eq!(out, expected);
    }
}
