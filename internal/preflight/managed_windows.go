package preflight

import (
	"context"
	"errors"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const uninstallKey = `Software\Microsoft\Windows\CurrentVersion\Uninstall`

// installedByMSI returns the InstallLocation of every product that Windows Installer has installed, for all users or for
// this one, of 64 or of 32 bits. A product need not give one (ARPINSTALLLOCATION): then it is not found.
func installedByMSI(ctx context.Context) ([]string, error) {
	var folders []string
	var errs []error
	for _, hive := range []registry.Key{registry.LOCAL_MACHINE, registry.CURRENT_USER} {
		for _, view := range []uint32{registry.WOW64_64KEY, registry.WOW64_32KEY} {
			found, err := installLocations(ctx, hive, registry.READ|view)
			if err != nil && !errors.Is(err, registry.ErrNotExist) {
				errs = append(errs, err)
			}
			folders = append(folders, found...)
		}
	}
	return folders, errors.Join(errs...)
}

func installLocations(ctx context.Context, hive registry.Key, access uint32) ([]string, error) {
	list, err := registry.OpenKey(hive, uninstallKey, access)
	if err != nil {
		return nil, err
	}
	defer func() { _ = list.Close() }()
	products, err := list.ReadSubKeyNames(-1)
	if err != nil {
		return nil, err
	}
	var folders []string
	for _, product := range products {
		if err := ctx.Err(); err != nil {
			return folders, err
		}
		folder, err := installLocation(list, product, access)
		if err != nil && !errors.Is(err, registry.ErrNotExist) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return folders, err
		}
		if folder != "" {
			folders = append(folders, folder)
		}
	}
	return folders, nil
}

func installLocation(list registry.Key, product string, access uint32) (string, error) {
	key, err := registry.OpenKey(list, product, access)
	if err != nil {
		return "", err
	}
	defer func() { _ = key.Close() }()
	if msi, _, err := key.GetIntegerValue("WindowsInstaller"); err != nil || msi != 1 {
		return "", nil // of another installer
	}
	folder, kind, err := key.GetStringValue("InstallLocation")
	if err != nil {
		return "", nil
	}
	if kind == registry.EXPAND_SZ {
		return registry.ExpandString(folder)
	}
	return folder, nil
}
