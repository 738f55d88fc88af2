// The few things that happen in the browser alone: dropping a file, recording a sound, remembering a choice.
window.modalign = {
  remember(name, value) {
    document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=strict`;
  },
  pick(id) {
    getElement(id).$refs.qRef.pickFiles();
  },
  drop(event, id) {
    event.preventDefault();
    event.currentTarget.classList.remove("over");
    if (event.dataTransfer.files.length) this.give(id, [event.dataTransfer.files[0]]);
  },
  give(id, files) {
    const uploader = getElement(id).$refs.qRef;
    uploader.reset();
    uploader.addFiles(files);
  },
  // what the map says of an item: made of nodes, so that its words stay words
  tip(point) {
    const box = document.createElement("div");
    if (point.data.picture) box.appendChild(document.createElement("img")).src = point.data.picture;
    box.appendChild(document.createElement("div")).textContent = point.data.name;
    box.className = "tip";
    return box;
  },
  // toggles; the sound is sent as WAV, which every decoder reads
  async record(button, id, refused) {
    if (this.recorder) return this.recorder.stop();
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      return emitEvent("refused", refused);
    }
    const recorder = new MediaRecorder(stream);
    const parts = [];
    this.recorder = recorder;
    button.classList.add("text-negative");
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = async () => {
      this.recorder = undefined;
      button.classList.remove("text-negative");
      stream.getTracks().forEach((track) => track.stop());
      const context = new AudioContext();
      const sound = await context.decodeAudioData(await new Blob(parts).arrayBuffer());
      this.give(id, [new File([this.wav(sound)], "recording.wav", { type: "audio/wav" })]);
      context.close();
    };
    recorder.start();
    setTimeout(() => recorder.state === "recording" && recorder.stop(), 15000);
  },
  wav(sound) {
    const samples = sound.getChannelData(0);
    const view = new DataView(new ArrayBuffer(44 + samples.length * 2));
    const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
    word(0, "RIFF"), view.setUint32(4, 36 + samples.length * 2, true), word(8, "WAVEfmt ");
    view.setUint32(16, 16, true), view.setUint16(20, 1, true), view.setUint16(22, 1, true);
    view.setUint32(24, sound.sampleRate, true), view.setUint32(28, sound.sampleRate * 2, true);
    view.setUint16(32, 2, true), view.setUint16(34, 16, true), word(36, "data"), view.setUint32(40, samples.length * 2, true);
    samples.forEach((one, i) => view.setInt16(44 + i * 2, Math.max(-1, Math.min(1, one)) * 32767, true));
    return view.buffer;
  },
};
