"""What the page is made of."""

HTML = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Classify a patch</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' \
viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='8' fill='%230072B2'/%3E%3Ccircle \
cx='16' cy='16' r='8' fill='none' stroke='white' stroke-width='3'/%3E%3Ccircle cx='16' cy='16' \
r='2.6' fill='white'/%3E%3C/svg%3E">
<style>/*STYLE*/</style>
</head>
<body>
<a class="skip" href="#drop">To the image field</a>
<header>
  <div class="brand">
    <svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8"/>
      <circle class="ring" cx="16" cy="16" r="8"/><circle class="dot" cx="16" cy="16" r="2.6"/>
    </svg>
    <h1>Classify a patch</h1>
  </div>
  <p class="chip" id="model" hidden></p>
</header>
<main>
  <noscript><p class="note bad">This page needs JavaScript. Without it, send the image with
    <code>curl</code> to <code>/invocations</code>.</p></noscript>

  <form class="card token" id="token-form" hidden>
    <h2>This server asks for its token</h2>
    <p>It was set where the server was started. It stays in this window until you close it.</p>
    <div class="field">
      <label for="token">Token</label>
      <input id="token" type="password" autocomplete="off" spellcheck="false" required>
      <button class="solid" type="submit">Use it</button>
    </div>
    <p class="note bad" id="token-error" role="alert" hidden></p>
  </form>

  <div class="columns" id="work" hidden>
    <section class="card picture" aria-labelledby="picture-title">
      <h2 id="picture-title">Image</h2>
      <label class="drop" id="drop">
        <input id="file" type="file" accept="image/jpeg,image/png,image/tiff">
        <span class="empty" id="empty">
          <svg viewBox="0 0 48 48" aria-hidden="true"><path d="M24 32V12m0 0-8 8m8-8 8 8M8 \
32v4a4 4 0 0 0 4 4h24a4 4 0 0 0 4-4v-4"/></svg>
          <strong>Drop an image here, or choose one</strong>
          <span>JPEG, PNG or TIFF. It goes to this server and is not kept.</span>
        </span>
        <span class="stage" id="stage" hidden>
          <img id="seen" alt="">
          <img id="heat" alt="" hidden>
        </span>
      </label>
      <div class="under" id="under" hidden>
        <p class="name" id="name"></p>
        <button type="button" id="again">Another image</button>
      </div>
      <div class="slider" id="slider" hidden>
        <label for="strength">Grad-CAM for <b id="explained"></b></label>
        <input id="strength" type="range" min="0" max="100" value="100"
          aria-describedby="heat-note">
        <div class="scale" aria-hidden="true"><span>little</span><i></i><span>strongest</span></div>
        <p class="small" id="heat-note">Bright places spoke most for this class. They show what the
          model looked at, not what is there.</p>
      </div>
      <p class="small" id="heat-none" hidden></p>
    </section>

    <section class="card answer" aria-labelledby="answer-title">
      <h2 id="answer-title">Answer</h2>
      <div id="live" aria-live="polite">
        <p class="idle" id="idle">The class and its probabilities appear here.</p>
        <p class="busy" id="busy" hidden><i aria-hidden="true"></i>Looking at the image</p>
        <div class="note bad" id="error" role="alert" hidden>
          <strong>No answer for this image</strong><p id="error-text"></p>
        </div>
        <div id="found" hidden>
          <p class="verdict"><span id="class"></span><span id="percent"></span></p>
          <p class="words" id="words"></p>
          <p class="note warn" id="abstain" hidden></p>
          <ol class="bars" id="bars" aria-label="Calibrated probability of each class"></ol>
          <button type="button" id="more" hidden></button>
          <p class="small" id="bars-note">Calibrated probabilities. Choose a class to see what spoke
            for it.</p>
        </div>
      </div>
      <details id="facts">
        <summary>About this model</summary>
        <dl id="about"></dl>
      </details>
    </section>
  </div>
  <p class="note bad" id="down" role="alert" hidden></p>
</main>
<footer>Not a medical device. For research and education: no diagnosis, no treatment decision may
  rest on it.</footer>
<script>/*SCRIPT*/</script>
</body>
</html>
"""
