//! Templates with Compose's interpolation: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`,
//! `${NAME?message}`, `${NAME:+value}`, `${NAME+value}`, nested, and `$$` for a dollar.
//!
//! One pass: a value is never looked at again. Errors have line and column, never a value.

use std::fmt;

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The cause; names variables, never shows values.
    pub problem: String,
    /// The line at fault. What stands there literally may be a password: only the option's name and the reference are shown.
    pub excerpt: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let (margin, before_caret) = (" ".repeat(number.len()), " ".repeat(self.column - 1));
        write!(formatter, "{}\n{number} | {}\n{margin} | {before_caret}^", self.problem, self.excerpt)
    }
}

/// Fills in a template of an INI file. `lookup` gives the variables; every value is escaped for Python's configparser.
pub(crate) fn render<'v>(template: &str, lookup: &dyn Fn(&str) -> Option<&'v str>) -> Result<String, TemplateError> {
    fill_in(template, Target::Ini, lookup)
}

/// Fills in a text that stands for itself: values are taken as they are.
pub(crate) fn interpolate<'v>(text: &str, lookup: &dyn Fn(&str) -> Option<&'v str>) -> Result<String, TemplateError> {
    fill_in(text, Target::Text, lookup)
}

fn fill_in<'v>(
    template: &str,
    target: Target,
    lookup: &dyn Fn(&str) -> Option<&'v str>,
) -> Result<String, TemplateError> {
    let mut renderer = Renderer { template, target, position: 0, lookup };
    let mut output = String::with_capacity(template.len() * 2);
    renderer.text(&mut output, Depth::Top)?;
    Ok(output)
}

/// What a value is put into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Ini,
    Text,
}

/// Whether a closing brace ends the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Nested,
    Top,
}

struct Renderer<'t, 'v> {
    template: &'t str,
    target: Target,
    position: usize,
    lookup: &'t dyn Fn(&str) -> Option<&'v str>,
}

impl<'t, 'v> Renderer<'t, 'v> {
    /// Text up to the end, or to the closing brace, which is left in place.
    fn text(&mut self, output: &mut String, depth: Depth) -> Result<(), TemplateError> {
        while let Some(next) = self.rest().find(['$', '}']) {
            output.push_str(&self.rest()[..next]);
            self.position += next;
            if self.rest().starts_with('}') {
                if depth == Depth::Nested {
                    return Ok(());
                }
                output.push('}');
                self.position += 1;
                continue;
            }
            self.reference(output)?;
        }
        output.push_str(self.rest());
        self.position = self.template.len();
        Ok(())
    }

    /// What begins with a dollar.
    fn reference(&mut self, output: &mut String) -> Result<(), TemplateError> {
        let start = self.position;
        self.position += 1;
        match self.rest().chars().next() {
            Some('$') => {
                self.position += 1;
                output.push('$');
                Ok(())
            }
            Some('{') => {
                self.position += 1;
                self.braced(start, output)
            }
            _ => {
                let name = self.name().ok_or_else(|| {
                    self.error(start, "expected a name, `{` or `$` behind `$` (write `$$` for a dollar)".to_owned())
                })?;
                self.required(name, start, output)
            }
        }
    }

    /// What stands between `${` and `}`.
    fn braced(&mut self, start: usize, output: &mut String) -> Result<(), TemplateError> {
        let name = self.name().ok_or_else(|| self.error(start, "expected a name behind `${`".to_owned()))?;
        let operator = [":-", ":?", ":+", "-", "?", "+"].into_iter().find(|operator| self.rest().starts_with(operator));
        let Some(operator) = operator else {
            if !self.rest().starts_with('}') {
                return Err(
                    self.error(start, format!("expected `}}` or one of `:-` `-` `:?` `?` `:+` `+` behind `{name}`"))
                );
            }
            self.position += 1;
            return self.required(name, start, output);
        };
        self.position += operator.len();
        let value = (self.lookup)(name);
        // With the colon an empty value counts as none.
        let present = value.filter(|value| !operator.starts_with(':') || !value.is_empty());
        let mut word = String::new();
        // The word is not looked at where it does not count: what is undefined in it is no error then.
        let counts = present.is_some() == operator.ends_with('+');
        if counts {
            self.text(&mut word, Depth::Nested)?;
        } else {
            self.skip();
        }
        if !self.rest().starts_with('}') {
            return Err(self.error(start, "expected a closing `}`".to_owned()));
        }
        self.position += 1;
        match (operator.trim_start_matches(':'), present) {
            ("+", _) => output.push_str(&word),
            (_, Some(value)) => self.push(value, name, start, output)?,
            ("?", None) if word.is_empty() => return Err(self.error(start, format!("`{name}` is not set"))),
            ("?", None) => return Err(self.error(start, format!("`{name}` is not set: {word}"))),
            (_, None) => output.push_str(&word),
        }
        Ok(())
    }

    fn required(&self, name: &str, start: usize, output: &mut String) -> Result<(), TemplateError> {
        match (self.lookup)(name) {
            Some(value) => self.push(value, name, start, output),
            None => Err(self.error(start, format!("`{name}` is not set"))),
        }
    }

    /// A value, escaped for its target: configparser interpolates `%`, and a line end would begin another option.
    fn push(&self, value: &str, name: &str, start: usize, output: &mut String) -> Result<(), TemplateError> {
        if self.target == Target::Text {
            output.push_str(value);
            return Ok(());
        }
        if value.contains(['\n', '\r']) {
            return Err(self.error(start, format!("the value of `{name}` has a line end in it")));
        }
        output.extend(value.split_inclusive('%').flat_map(|part| [part, if part.ends_with('%') { "%" } else { "" }]));
        Ok(())
    }

    /// Passes over a word, braces in it counted.
    fn skip(&mut self) {
        let mut open = 0;
        while let Some(next) = self.rest().find(['$', '}']) {
            self.position += next;
            match (self.rest().as_bytes().first(), self.rest().as_bytes().get(1)) {
                (Some(b'$'), Some(b'{')) => open += 1,
                (Some(b'}'), _) if open == 0 => return,
                (Some(b'}'), _) => {
                    open -= 1;
                    self.position += 1;
                    continue;
                }
                (Some(b'$'), Some(b'$')) => {}
                _ => {
                    self.position += 1;
                    continue;
                }
            }
            self.position += 2;
        }
        self.position = self.template.len();
    }

    fn name(&mut self) -> Option<&'t str> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..end];
        let first = name.chars().next()?;
        (!first.is_ascii_digit()).then_some(())?;
        self.position += end;
        Some(name)
    }

    fn rest(&self) -> &'t str {
        &self.template[self.position..]
    }

    fn error(&self, position: usize, problem: String) -> TemplateError {
        let before = &self.template[..position];
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        TemplateError {
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_start..].chars().count(),
            problem,
            excerpt: excerpt(&self.template[line_start..], position - line_start),
        }
    }
}

/// The first line of a text with all but the option's name and the reference at `position` made unreadable, column by column.
fn excerpt(text: &str, position: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let name_end = line.find(['=', ':']).filter(|end| *end < position).map_or(0, |end| end + 1);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let reference = line[position..].trim_start_matches(['$', '{']);
    let reference_end = line.len() - reference.trim_start_matches(is_name).len();
    let mask = |c: char| if c.is_whitespace() { c } else { '.' };
    line.char_indices()
        .map(|(at, c)| if at < name_end || (position..reference_end).contains(&at) { c } else { mask(c) })
        .collect()
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
