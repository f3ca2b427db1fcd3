// Drives a browser through the marketplace's page, as a person with a keyboard and a phone would, and judges what is there.
// It is given ADDRESS, TOKEN and CHROMIUM, says `all is well` at its end, and fails with what is wrong before.

const { chromium } = require("playwright-core");
const { existsSync, readFileSync } = require("node:fs");
const { delimiter, isAbsolute, join } = require("node:path");

const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { ADDRESS, TOKEN, CHROMIUM } = process.env;
const ROOT = `http://${ADDRESS}/marketplace`;
const problems = [];

function need(truth, what) {
  if (!truth) throw new Error(what);
}

// Accessibility, width, and that nothing of a text became an element.
async function judge(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const bad = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  need(bad.length === 0, `${what}: ${JSON.stringify(bad.map((one) => [one.id, one.nodes.map((node) => node.html)]))}`);
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  need(wide <= room, `${what}: ${wide} px wide in ${room}`);
  const strange = await page.evaluate(() => document.querySelectorAll("img, script, iframe, object, svg, [onerror], a[href^='javascript' i]").length);
  need(strange === 0, `${what}: ${strange} elements that no page of ours has`);
  console.log(`ok: ${what}`);
}

// Goes on with the tabulator until what has the focus fits; a person sees where that is.
async function tabTo(page, what, fits) {
  for (let pressed = 0; pressed < 60; pressed += 1) {
    await page.keyboard.press("Tab");
    const found = await page.evaluate(fits);
    if (found) {
      const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      need(outline !== "none", `${what} does not show that it has the focus`);
      return;
    }
  }
  throw new Error(`${what} can't be reached by keyboard on ${page.url()}`);
}

async function press(page, key) {
  await Promise.all([page.waitForNavigation({ waitUntil: "load" }), page.keyboard.press(key)]);
}

async function byKeyboard(page) {
  await page.goto(`${ROOT}/`);
  await page.keyboard.press("Tab");
  need(await page.evaluate(() => document.activeElement.textContent === "Skip to the content"), "the first stop skips the navigation");
  await judge(page, "the search with the way past the navigation shown");
  await tabTo(page, "the search", () => document.activeElement.id === "q");
  await page.keyboard.type("keeps things");
  await press(page, "Enter");
  await judge(page, "what was found");
  await tabTo(page, "the listing", () => document.activeElement.textContent === "team/shop-store");
  await press(page, "Enter");
  await judge(page, "the listing");
  await tabTo(page, "the way to install", () => document.activeElement.textContent.startsWith("Review and install"));
  await press(page, "Enter");
  await judge(page, "the page that asks to sign in");
  await tabTo(page, "the way to sign in", () => document.activeElement.textContent === "Sign in");
  await press(page, "Enter");
  await judge(page, "signing in");
  await tabTo(page, "the token", () => document.activeElement.id === "token");
  await page.keyboard.type("wrong");
  await press(page, "Enter");
  await judge(page, "signing in with another token");
  await tabTo(page, "the token", () => document.activeElement.id === "token");
  await page.keyboard.type(TOKEN);
  await press(page, "Enter");
  need(page.url().includes("/install?"), `signing in leads back: ${page.url()}`);
  await judge(page, "the review");
  await tabTo(page, "the button", () => document.activeElement.textContent === "Install");
  await press(page, "Enter");
  need((await page.textContent("[role=alert]")).includes("missing: `kv`"), "what was not ticked is not installed");
  await judge(page, "the review again");
  for (const grant of ["kv", "network:cache.internal:6379"]) {
    const selector = `document.activeElement.value === ${JSON.stringify(grant)}`;
    await tabTo(page, grant, selector);
    await page.keyboard.press("Space");
  }
  await tabTo(page, "the button", () => document.activeElement.textContent === "Install");
  await press(page, "Enter");
  need((await page.textContent("main")).includes("platform plugin bind kv.store shop-store@1.0.0"), "how to bind is told");
  await judge(page, "what was installed");
}

// A component whose every text is an attack.
async function evil(page) {
  for (const [path, what] of [
    ["/", "the search with what means ill"],
    ["/c/team/evil", "the listing of what means ill"],
    ["/install?name=team/evil&version=6.6.6", "the review of what means ill"],
    ["/?q=%22%27%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "a search that means ill"],
    ["/c/%3Cscript%3Ealert(1)%3C%2Fscript%3E", "a name that means ill"],
    ["/nothing", "what is not there"],
  ]) {
    await page.goto(`${ROOT}${path}`);
    await judge(page, what);
  }
  await page.goto(`${ROOT}/c/team/evil`);
  need((await page.textContent("main")).includes("<img src=x onerror=alert(1)>"), "the text is shown as a text");
}

// Another site's form, sent while its victim is signed in.
async function fromElsewhere(page) {
  const form = `<form method=post action="${ROOT}/install"><input name=name value=team/evil><input name=version value=6.6.6><input name=digest value=x><button>go</button></form>`;
  await page.goto(`data:text/html,${encodeURIComponent(form)}`);
  const [answer] = await Promise.all([page.waitForNavigation(), page.click("button")]);
  need(answer.status() === 403, `a form of another site is answered with ${answer.status()}`);
}

// Where a program is that may be on the path.
function program(name) {
  const places = (process.env.PATH || "").split(delimiter).map((folder) => join(folder, name));
  return isAbsolute(name) ? name : places.find((file) => existsSync(file));
}

async function main() {
  const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: program(CHROMIUM), args });
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width: 390, height: 844 }, colorScheme });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    page.on("dialog", (dialog) => { problems.push(`a dialog: ${dialog.message()}`); void dialog.dismiss(); });
    page.on("pageerror", (error) => problems.push(`a script failed: ${error}`));
    // Statuses of errors, and the icon that browsers ask for by themselves, are no violations.
    page.on("console", (message) => {
      const known = message.type() !== "error" || /Failed to load resource|favicon/.test(message.text());
      if (!known) problems.push(`the console: ${message.text()}`);
    });
    if (colorScheme === "light") await byKeyboard(page);
    else {
      await page.goto(`${ROOT}/sign-in`);
      await page.fill("#token", TOKEN);
      await Promise.all([page.waitForNavigation(), page.click("button")]);
      for (const path of ["/", "/?q=things", "/c/team/shop-store", "/install?name=team/shop-store&version=1.0.0", "/sign-in", "/c/team/none"]) {
        await page.goto(`${ROOT}${path}`);
        await judge(page, `${path} in the dark`);
      }
    }
    await evil(page);
    await fromElsewhere(page);
    await context.close();
  }
  await browser.close();
  need(problems.length === 0, problems.join("\n"));
  console.log("all is well");
}

main().catch((error) => {
  console.error(String(error && error.stack || error), problems.join("\n"));
  process.exit(1);
});
