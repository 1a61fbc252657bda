package preflight

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestManagedByPlace(t *testing.T) {
	for _, tt := range []struct{ goos, path, by string }{
		{"linux", "/nix/store/abc-app-1/bin/app", "Nix"},
		{"darwin", "/nix/store/abc-app-1/bin/app", "Nix"},
		{"linux", "/home/me/.local/share/nix/root/nix/store/abc-app-1/bin/app", "Nix"},
		{"linux", "/gnu/store/abc-app-1/bin/app", "Guix"},
		{"linux", "/snap/app/12/bin/app", "snap"},
		{"linux", "/var/lib/snapd/snap/app/12/bin/app", "snap"},
		{"linux", "/home/me/snap/app/12/bin/app", ""},
		{"linux", "/var/lib/flatpak/app/org.example.App/current/active/files/bin/app", "Flatpak"},
		{"linux", "/home/me/.local/share/flatpak/app/org.example.App/current/active/files/bin/app", "Flatpak"},
		{"linux", "/app/bin/app", ""},
		{"linux", "/home/linuxbrew/.linuxbrew/bin/app", "Homebrew"},
		{"linux", "/home/linuxbrew/bin/app", ""},
		{"linux", "/opt/local/bin/app", ""},
		{"darwin", "/opt/local/bin/app", "MacPorts"},
		{"darwin", "/opt/homebrew/bin/app", "Homebrew"},
		{"darwin", "/usr/local/Cellar/app/1.0/bin/app", "Homebrew"},
		{"darwin", "/usr/local/Caskroom/app/1.0/app", "Homebrew"},
		{"darwin", "/usr/local/bin/app", ""},
		{"darwin", "/private/var/folders/x/T/AppTranslocation/UUID/d/App.app/Contents/MacOS/App", "macOS App Translocation: move the app to the Applications folder first"},
		{"darwin", "/Applications/App.app/Contents/MacOS/App", ""},
		{"linux", "/x/WindowsApps/app/app", ""},
		{"windows", `C:\Program Files\WindowsApps\Example.App_1.0_x64__abc\app.exe`, "the Microsoft Store"},
		{"windows", `c:\program files\windowsapps\example.app_1.0_x64__abc\app.exe`, "the Microsoft Store"},
		{"windows", `C:\ProgramData\chocolatey\lib\app\tools\app.exe`, "Chocolatey"},
		{"windows", `C:\ProgramData\chocolatey\app.exe`, ""},
		{"windows", `C:\Users\me\scoop\apps\app\current\app.exe`, "Scoop"},
		{"windows", `C:\Users\me\AppData\Local\Microsoft\WinGet\Packages\Example.App_Source\app.exe`, "WinGet"},
		{"windows", `C:\Program Files\App\app.exe`, ""},
	} {
		require.Equal(t, tt.by, system{goos: tt.goos}.place(tt.path), "%s: %s", tt.goos, tt.path)
	}
}

func TestManagedByWindowsInstaller(t *testing.T) {
	const app = `C:\Program Files\App\bin\app.exe`
	for folder, owned := range map[string]bool{
		`C:\Program Files\App\`:       true,
		`C:\Program Files\App`:        true,
		`c:\program files\APP`:        true,
		`"C:\Program Files\App\"`:     true,
		`C:/Program Files/App`:        true,
		`C:\Program Files\App\bin`:    true,
		`C:\Program Files\Ap`:         false,
		`C:\Program Files\App\bin\ap`: false,
		`C:\Program Files\Other`:      false,
		`C:\`:                         false,
		`C:`:                          false,
		``:                            false,
		`"`:                           false,
	} {
		m := system{goos: "windows", msi: func(context.Context) ([]string, error) { return []string{`C:\Elsewhere`, folder}, nil }}
		got, err := m.windowsInstaller(t.Context(), []string{app})
		require.NoError(t, err)
		require.Equal(t, owned, got, folder)
	}
	failed := errors.New("registry")
	m := system{goos: "windows", patience: time.Minute, msi: func(context.Context) ([]string, error) { return nil, failed }}
	by, err := m.managedBy(t.Context(), app)
	require.Empty(t, by)
	require.ErrorIs(t, err, failed)
}
