// Before anything is drawn: the colours that were chosen last time, if the system's are not wanted.
document.documentElement.dataset.theme = localStorage.getItem("trunkline-theme") ?? "system";
